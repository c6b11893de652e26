"""Services that read the event log and put it into words."""
