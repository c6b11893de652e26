"""The subcommands of `flotilla`, one subject a file."""
