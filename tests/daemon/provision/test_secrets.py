"""Provision secrets and API keys appear in no log, event, error, page or job, also when a bot repeats them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import timedelta
from urllib.parse import quote
from zlib import compress, decompress

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from daemon.context import Context
from daemon.provision import sync_jobs
from daemon.scheduler import Scheduler
from portal.models import Base, Bot, BotTemplate, MembershipRole, utcnow
from portal.queue import connect
from portal.services.accounts import sessions
from portal.services.syncs import provision_secrets
from portal.settings import Settings
from portal.web.cookie_names import session_cookie_name
from tests import factories
from tests.daemon.provision.toy_bot import SECRET, ToyBot, Trouble
from tests.daemon.provision.world import LANE, SyncWorld

API_KEY = "key-of-the-model-gateway"


def list_texts(world: SyncWorld) -> Iterable[str]:
    """Yield all rows of all tables as text, as they are stored."""
    with world.database.engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            for row in connection.execute(sa.text(f'SELECT * FROM "{table.name}"')):  # noqa: S608 - a known name
                yield f"{table.name}: {row}"


def list_messages(redis: Redis) -> Iterable[str]:
    """Yield the contents of all keys of Redis."""
    for key in redis.scan_iter():
        if redis.type(key) == b"hash":  # a message, whose arguments RQ compresses
            fields: dict[bytes, bytes] = dict(redis.hgetall(key))  # type: ignore[arg-type]  # no decoding client
            data = decompress(fields.pop(b"data", compress(b"")))
            yield f"{key!r} {fields} {data!r}"


def list_pages(app: Flask, world: SyncWorld, settings: Settings) -> Iterable[str]:
    """Yield all pages without an argument, and those of the organization and the bot, as an operator sees them."""
    with world.database.transaction() as session:
        root = factories.user(session, "root", is_platform_admin=True)
        token = sessions.start(session, root.id, now=utcnow(), user_agent="test", ip="127.0.0.1")
    client: FlaskClient = app.test_client()
    client.set_cookie(session_cookie_name(settings), token)
    values = {"slug": "acme", "org_slug": "acme", "bot_id": world.bot_id, "org_id": world.org_id}
    for rule in app.url_map.iter_rules():
        if "GET" in (rule.methods or ()) and rule.arguments <= values.keys():
            path = rule.rule
            for name in rule.arguments:
                path = path.replace(f"<{name}>", quote(values[name]))
            yield f"{path}: {client.get(path).text}"


def test_secrets_are_nowhere(  # noqa: PLR0917 - fixtures come by name
    world: SyncWorld,
    toy: ToyBot,
    app: Flask,
    settings: Settings,
    redis_url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    with world.database.transaction() as session:
        session.get_one(BotTemplate, 1).api_key = API_KEY
        bot = session.get_one(Bot, world.bot_id)
        bot.secret_variable = "PROVISION_SECRET"
        provision_secrets.begin_rotation(session, bot, actor=None)
        following = bot.provision_secret["next"]
    world.sync()
    obey = toy._obey
    echo = {
        "error": f"{SECRET} {API_KEY} {following}",
        "ok": f"{SECRET} {following}",
        "members": [{"userId": SECRET}],
    }
    for status in (200, 401, 404, 409, 422, 500):
        monkeypatch.setattr(toy, "_obey", lambda *_, status=status: (status, echo))
        world.join(world.add_user(f"user{status}"), MembershipRole.ADMIN)
        world.let_reconcile()
        world.skip_waiting()
        world.sync()
    monkeypatch.setattr(toy, "_obey", obey)
    for trouble in (Trouble.NOT_HTTP, Trouble.HTML, Trouble.RESTART):
        monkeypatch.setattr(toy, "choose_trouble", lambda _path, trouble=trouble: trouble)
        world.skip_waiting()
        world.sync()
    monkeypatch.setattr(sync_jobs, "sync_bot", fail)
    world.skip_waiting()
    sync_jobs.sync_node(world.database, world.node_id, LANE)
    redis = connect(redis_url)
    Scheduler(Context(settings, world.database, redis)).tick(utcnow() + timedelta(hours=1))
    places = [caplog.text, *list_texts(world), *list_messages(redis), *list_pages(app, world, settings)]
    redis.close()
    assert len(places) > 50
    assert any("daemon.jobs.sync_unanswering" in place for place in places)
    for secret in (SECRET, API_KEY, following):
        found = [place[:200] for place in places if secret in place]
        assert found == [], json.dumps(found)


def fail(*_: object) -> None:
    """Fail like an error in Flotilla."""
    raise RuntimeError("unexpected")
