"""Brings one bot to one release, or back."""
