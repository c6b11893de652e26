"""The reference bot: a small bot that fulfils the whole contract of a bot image. Runs inside the reference images.

It uses the standard library only. It answers `GET /health`, stores notes, members and companies in two volumes,
migrates its database when it starts, obeys the provision protocol under `/internal`, and reads the caller's identity
from the request headers. The releases differ only in `/app/behaviour.json` and in their changelog.
"""
