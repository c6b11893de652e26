"""Calls of the provision protocol, and the jobs that carry companies and members into bots."""
