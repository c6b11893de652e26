"""The settings, database and Redis client of a background process. Used by jobs, commands and the scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

from redis import Redis

from portal.change_messages import publish_changes
from portal.data_dir import prepare_data_dir
from portal.database import Database
from portal.models.encrypted import use_keys
from portal.queue import connect
from portal.settings import Settings


@dataclass(frozen=True)
class Context:
    """The objects that all jobs of a process share. They survive forks: each child opens new connections."""

    settings: Settings
    database: Database
    redis: Redis


@cache
def current_context() -> Context:
    """Return the context of this process, created from the environment on first use.

    Raises:
        SettingsError: the environment contains invalid settings, or other accounts can read the data folder.
    """
    settings = Settings.from_environment()
    prepare_data_dir(settings)
    use_keys(settings.secret_key, settings.secret_key_fallbacks)
    redis = connect(settings.redis_url)
    return Context(settings, Database(settings.database_url, partial(publish_changes, redis)), redis)
