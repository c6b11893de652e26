"""Jobs on single bots and nodes: adopt, desired state, purge, probe, collect leftovers."""
