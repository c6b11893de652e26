"""Image registries: resolving tags to digests and reading changelogs. Used by jobs and `flotilla doctor`."""
