"""Access to Docker engines: client, containers, labels, health probe, recreation of containers.

Used by jobs and commands.
"""
