"""The gateway: carries signed-in people to the bots of their organizations. Used by `flotilla gateway`."""
