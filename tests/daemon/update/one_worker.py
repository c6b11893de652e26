"""A worker process that runs one update: `python -m tests.daemon.update.one_worker <update id>`."""

from __future__ import annotations

import sys

from daemon.update.sequence import update_bot
from portal.database import Database
from portal.models.encrypted import use_keys
from portal.settings import Settings

if __name__ == "__main__":
    settings = Settings.from_environment()
    use_keys(settings.secret_key)
    update_bot(Database(settings.database_url), settings, sys.argv[1])
