"""Jobs and commands on single bots and nodes: adopt, attach, desired state, purge, probe, collect leftovers."""
