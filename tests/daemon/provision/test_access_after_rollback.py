"""Gateway, member sync and a rollback together: restored data never lets a person in with a former right."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from daemon.provision.sync_jobs import sync_node
from daemon.update.sequence import update_bot
from demo.versions import UNHEALTHY
from portal.models import Bot, Membership, MembershipRole, Step, UpdateState, utcnow
from portal.services.orgs import memberships
from tests import factories
from tests.daemon.bots.nursery import Nursery, add_nursery
from tests.daemon.processes import wait_until
from tests.support.gateway import Browser, LoopThread, RunningGateway, sign_in
from tests.support.site import Site

pytestmark = [pytest.mark.docker, pytest.mark.registry, pytest.mark.slow]

ADMIN, MEMBER = MembershipRole.ADMIN, MembershipRole.MEMBER
PEOPLE = {"raised": MEMBER, "demoted": ADMIN, "removed": ADMIN, "unchanged": MEMBER}
"""Roles before everything. A name says what happens to the person."""

Seen = dict[str, set[str]]
"""What people got, by name: the role with which the bot answered, or the status of the gateway."""


@dataclass
class Place:
    """A created bot whose members are synced, and a browser of every person."""

    nursery: Nursery
    browsers: dict[str, Browser]

    def sync(self) -> None:
        """Send what the bot does not know yet."""
        sync_node(self.nursery.database, self.nursery.site.bot().node_id)

    def change_role(self, name: str, role: MembershipRole) -> None:
        """Let the owner change the role of a person."""
        with self.nursery.database.transaction() as session:
            org = session.get_one(Bot, self.nursery.bot_id).org
            row = session.scalars(sa.select(Membership).where(Membership.user_id == name)).one()
            now, version = utcnow(), row.version
            memberships.change_role(session, org, row.id, role, version=version, actor=org.owner, now=now)

    def remove(self, name: str) -> None:
        """Let the owner remove a person."""
        with self.nursery.database.transaction() as session:
            org = session.get_one(Bot, self.nursery.bot_id).org
            row = session.scalars(sa.select(Membership).where(Membership.user_id == name)).one()
            memberships.remove_member(session, org, row.id, version=row.version, actor=org.owner, now=utcnow())

    def roles_in_bot(self) -> dict[str, str]:
        """Return the roles of the people in the bot, without the gateway."""
        bot = self.nursery.site.bot()
        headers = {"Authorization": f"Bearer {bot.provision_secret['current']}"}
        url = f"http://{bot.address}/internal/members"
        answer = requests.get(url, params={"companyId": bot.company_id}, headers=headers, timeout=10)
        return {row["userId"]: row["role"] for row in answer.json()["members"] if row["userId"] in PEOPLE}

    def visit(self, name: str) -> str:
        """Let a person send a request, and return the role with which the bot answers, or the gateway's status."""
        status, body = self.browsers[name].read("/me", headers={"Accept": "*/*"})
        return str(json.loads(body)["role"]) if status == 200 else str(status)

    def visit_all(self) -> dict[str, str]:
        """Let everyone send a request."""
        with ThreadPoolExecutor(len(PEOPLE)) as pool:
            return dict(zip(PEOPLE, pool.map(self.visit, PEOPLE), strict=True))


@pytest.fixture
def nursery(empty_site: Site, docker_url: str, tmp_path: Path) -> Iterator[Nursery]:
    """Create a bot, whose members are those of `PEOPLE`."""
    empty_site.settings = empty_site.with_settings(health_check_timeout=timedelta(seconds=4))
    nursery = add_nursery(empty_site, docker_url, tmp_path)
    nursery.create()
    with nursery.database.transaction() as session:
        org = session.get_one(Bot, nursery.bot_id).org
        for name, role in PEOPLE.items():
            user = factories.user(session, name, id=name)
            memberships.add_member(session, org, user, role, actor=org.owner, now=utcnow())
    yield nursery
    nursery.remove()


@pytest.fixture
def place(nursery: Nursery, redis_url: str) -> Iterator[Place]:
    """Let everyone open the bot."""
    servers = LoopThread()
    settings = replace(nursery.settings, redis_url=redis_url, base_url="http://127.0.0.1:8000")
    gateway = RunningGateway(servers, settings, nursery.database)
    browsers = {name: sign_in(gateway, nursery.database, name, nursery.bot_id) for name in PEOPLE}
    yield Place(nursery, browsers)
    gateway.stop()
    servers.close()


@contextmanager
def visiting(place: Place) -> Iterator[Seen]:
    """Let everyone send requests all the time, and yield what they get."""
    seen: Seen = defaultdict(set)
    stopped = threading.Event()

    def visit(name: str) -> None:
        while not stopped.wait(0.05):
            seen[name].add(place.visit(name))

    threads = [threading.Thread(target=visit, args=(name,)) for name in PEOPLE]
    for thread in threads:
        thread.start()
    yield seen
    stopped.set()
    for thread in threads:
        thread.join()


def test_restored_data_never_lets_a_person_in_with_a_former_right(place: Place) -> None:
    place.sync()
    assert place.visit_all() == {name: role.value for name, role in PEOPLE.items()}
    place.change_role("raised", ADMIN)
    place.sync()
    site = place.nursery.site
    update_id = site.update_to(UNHEALTHY)
    update = threading.Thread(target=update_bot, args=(site.database, site.settings, update_id))
    update.start()
    wait_until(lambda: site.update(update_id).step is Step.HEALTH, "the volumes are in the archive")
    place.change_role("demoted", MEMBER)
    place.remove("removed")
    with visiting(place) as seen:
        place.sync()  # sends nothing, because an update runs
        update.join()
        assert site.update(update_id).state is UpdateState.ROLLED_BACK
        wait_until(lambda: "member" in seen["unchanged"], "the bot is back")
        time.sleep(1)
        former = {"raised": "admin", "demoted": "admin", "removed": "admin", "unchanged": "member"}
        assert place.roles_in_bot() == former
    assert seen == {"raised": {"503"}, "demoted": {"503"}, "removed": {"404"}, "unchanged": {"member"}}

    with visiting(place) as seen:
        place.sync()
        wait_until(lambda: "admin" in seen["raised"] and "member" in seen["demoted"], "the bot has confirmed")
    assert seen["demoted"] == {"503", "member"}
    assert seen["removed"] == {"404"}
    assert place.roles_in_bot() == {"raised": "admin", "demoted": "member", "unchanged": "member"}
