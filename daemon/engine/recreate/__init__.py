"""Faithful recreation: capture a container, create it again on another image, compare both. Used by updates."""
