"""Capture a container and create it again on another image."""
