"""How much CPU and memory a bot uses now. Used by the job that reads it for the bot's page.

The engine reports the CPU time since the start of the container. The share of a CPU follows from two readings, so the
first one has none.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from docker.errors import DockerException
from redis import Redis

from daemon.engine import containers
from daemon.engine.client import describe_error, open_engine, rejecting_malformed_answers
from daemon.errors import OperationFailed
from portal import live_readings
from portal.database import Database
from portal.live_readings import Reading
from portal.models import Bot, NodeState, utcnow

_CALL_SECONDS = 5
_CACHES = ("inactive_file", "total_inactive_file")
"""Memory that the kernel gives to others when they need it, in the words of both versions of cgroups."""


def read_for_page(database: Database, redis: Redis, bot_id: str) -> None:
    """Read the resource use of a bot and keep it for the portal. A bot that is not running uses nothing."""
    with database.reading() as session:
        bot = session.get(Bot, bot_id)
        if bot is None or bot.node.state is NodeState.OFFLINE:
            return
        node = bot.node
    try:
        with open_engine(node, _CALL_SECONDS) as engine, rejecting_malformed_answers(node):
            found = containers.inspect(engine, bot.container_id)
            if found is None or not found["State"]["Running"]:
                content: dict[str, Any] = {"error": "The bot does not run"}
            else:
                stats = engine.stats(found["Id"], stream=False, one_shot=True)
                content = _read_values(stats, found) | {"error": None}
    except (DockerException, OperationFailed) as error:
        content = {"error": describe_error(error)}
    now = utcnow()
    previous = live_readings.load(redis, Reading.RESOURCE_USE, bot_id)
    content["cpus"] = measure_cpus(previous, content, now)
    live_readings.store(redis, Reading.RESOURCE_USE, bot_id, content, now)


def measure_cpus(previous: dict[str, Any] | None, current: dict[str, Any], now: datetime) -> float | None:
    """Return how many CPUs a bot has used since the previous reading; None without one of the same start."""
    if previous is None or "cpu_seconds" not in current or previous.get("started") != current["started"]:
        return None
    passed = (now - previous["at"]).total_seconds()
    used = current["cpu_seconds"] - previous["cpu_seconds"]
    return float(used / passed) if passed > 0 and used >= 0 else None


def _read_values(stats: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    memory = stats["memory_stats"]
    details = memory.get("stats") or {}
    cache = next((details[name] for name in _CACHES if name in details), 0)
    return {
        "started": str(found["State"]["StartedAt"]),
        "cpu_seconds": int(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9,
        "memory": max(0, int(memory["usage"]) - int(cache)),
        "memory_limit": int(found["HostConfig"].get("Memory") or 0) or None,
    }
