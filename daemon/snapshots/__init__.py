"""Archives of volumes: helper containers, archive, verify, restore, delete."""
