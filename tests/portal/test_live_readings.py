"""Readings of nodes in Redis: requested once for all who watch, kept for a short time, lost without harm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Timer

import pytest
from redis import Redis

from portal import live_readings
from portal.live_readings import Reading
from portal.models import utcnow
from portal.queue import READINGS_QUEUE, open_queue


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of an empty Redis."""
    with Redis.from_url(redis_url) as client:
        yield client


def test_reading_is_requested_once_for_everybody_who_watches(redis: Redis) -> None:
    assert all(live_readings.request(redis, Reading.LOG, "bot") for _ in range(5))
    assert live_readings.request(redis, Reading.LONG_LOG, "bot")
    assert live_readings.request(redis, Reading.LOG, "other")
    jobs = [(job.func_name, job.args) for job in open_queue(redis, READINGS_QUEUE).get_jobs()]
    assert jobs == [
        ("daemon.jobs.read_log", ["bot"]),
        ("daemon.jobs.read_long_log", ["bot"]),
        ("daemon.jobs.read_log", ["other"]),
    ]


def test_reading_is_kept_for_a_short_time(redis: Redis) -> None:
    now = utcnow()
    live_readings.store(redis, Reading.LOG, "bot", {"lines": []}, now)
    assert live_readings.load(redis, Reading.LOG, "bot") == {"lines": [], "at": now}
    assert live_readings.load(redis, Reading.LOG, "other") is None
    assert 0 < redis.ttl("flotilla:reading:log:bot") <= live_readings.KEEP_SECONDS


def test_waiting_ends_with_the_reading_or_the_time(redis: Redis) -> None:
    assert live_readings.wait(redis, Reading.LOG, "bot", seconds=0) is None
    worker = Timer(0.05, live_readings.store, [redis, Reading.LOG, "bot", {"lines": []}, utcnow()])
    worker.start()
    assert live_readings.wait(redis, Reading.LOG, "bot", seconds=30) is not None
    worker.join()


def test_without_redis_nothing_waits() -> None:
    with Redis.from_url("unix:///nowhere/redis.sock") as gone:
        started = time.monotonic()
        assert live_readings.wait(gone, Reading.LOG, "bot", seconds=3600) is None
        assert live_readings.load(gone, Reading.LOG, "bot") is None
        assert time.monotonic() - started < 3600
