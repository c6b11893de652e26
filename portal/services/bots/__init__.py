"""Services on bots and nodes: leases, desired and observed state, lists, snapshots, purging."""
