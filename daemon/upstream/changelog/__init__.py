"""Internal and user-facing changelogs from upstream's commits."""
