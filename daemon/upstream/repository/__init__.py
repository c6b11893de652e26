"""The git repository of the fork: commands, lock, journal, history, rebase, working tree."""
