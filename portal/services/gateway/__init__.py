"""What the gateway reads and records: entering of bots, access, running processes, keys of assertions."""
