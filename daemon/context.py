"""What background work needs of its process: settings, database, Redis. Built when first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from redis import Redis

from portal.database import Database
from portal.models.encrypted import use_keys
from portal.queue import connect
from portal.settings import Settings


@dataclass(frozen=True)
class Context:
    """The parts one process shares among its jobs. They survive a fork: each child opens connections of its own."""

    settings: Settings
    database: Database
    redis: Redis


@cache
def current_context() -> Context:
    """The context of this process, configured from the environment.

    Raises:
        SettingsError: when the environment does not make a usable configuration.
    """
    settings = Settings.from_environment()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    use_keys(settings.secret_key, settings.secret_key_fallbacks)
    return Context(settings, Database(settings.database_url), connect(settings.redis_url))
