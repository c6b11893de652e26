"""Services on bots and nodes: leases, desired state, observations, lists, snapshots, purging."""
