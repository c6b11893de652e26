"""Measurements: how long a bot is down, how fast its data is saved, what a large fleet costs."""
