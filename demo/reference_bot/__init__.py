"""The reference bot: the smallest bot that fulfils the contract of a bot image. Runs inside the reference images.

It uses the standard library only. It answers `GET /health`, stores notes in two volumes, migrates its database when
it starts, and reads the caller's identity from the request headers. The releases differ only in
`/app/behaviour.json` and in their changelog.
"""
