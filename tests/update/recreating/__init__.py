"""Containers are recreated faithfully."""
