"""The scan for user interface code that hosted mode must hide, and its settings."""
