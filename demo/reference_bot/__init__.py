"""A small honest bot that keeps the contract of a bot image, with nothing but the standard library.

It answers `GET /health`, keeps notes in its two volumes, migrates its database on boot, and knows who the
caller is from the identity headers. Releases of it differ only in `/app/behaviour.json` and their changelog.
"""
