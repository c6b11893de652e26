"""Snapshots of volumes: helper containers that archive, verify, restore and delete. Used by updates and purge."""
