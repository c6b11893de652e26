"""Sending the outbox: what a mail says is decided, and its link made, only when it is sent."""
