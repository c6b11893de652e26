"""What `make demo ONCE=1` checks: updates while visitors use their bots, and memberships."""
