"""Services for rollouts and updates: start, select, plan, journal, outcomes, notifications."""
