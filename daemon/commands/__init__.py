"""The subcommands of `flotilla`, one module per subject. Used by `daemon.cli`."""
