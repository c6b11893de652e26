"""The web application, and the domain it shares with the daemon."""
