"""Mail about updates: who gets which, once, and when there is nothing to tell any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import (
    Bot,
    BotUpdate,
    MailState,
    Membership,
    MembershipRole,
    OutgoingMail,
    Release,
    Rollout,
    RolloutState,
    TenantMode,
    TenantUpdateConfig,
    UpdateState,
    User,
    utcnow,
)
from portal.services.mail import outbox
from portal.services.releases import changelogs, releases
from portal.services.rollouts import notifications, outcomes, transitions
from portal.services.rollouts.outcomes import Outcome
from tests.daemon.mail.conftest import BASE_URL
from tests.support.mail import Mailbox
from tests.support.outbox import Office, bodies
from tests.support.statements import counted_statements
from tests.support.world import World, bad

CHANGELOG = {
    "version": "2.0.0",
    "date": "2100-05-04",
    "sections": [{"title": "New", "items": ["Faxes are answered", "Bots greet <people>"]}],
}
Ends = Callable[[Session, BotUpdate], None]


@dataclass
class Fleet:
    """Acme's two bots, its owner Olga, admin Adam and member Mia; root operates."""

    world: World
    org: str
    bots: list[str]

    def add_release(self) -> str:
        """A release behind the bots' tag whose changelog was not read yet."""
        release = self.world.push("2.0.0")
        self.change(Release, release, changelog=None)
        return release

    def read_changelog(self, release: str) -> None:
        """A worker has read it."""
        with self.world.database.transaction() as session:
            read = changelogs.record_changelog(session, release, CHANGELOG, utcnow())
            notifications.notify_update_available(session, read)

    def change(self, kind: Any, key: str, **values: Any) -> None:
        """Change a row."""
        with self.world.database.transaction() as session:
            row = session.get_one(kind, key)
            for name, value in values.items():
                setattr(row, name, value)

    def start(self, release: str) -> dict[str, str]:
        """Begin to update both bots; ids of the updates by bot."""
        rollout = self.world.start(release, self.bots)
        with self.world.database.transaction() as session:
            updates = session.scalars(sa.select(BotUpdate).where(BotUpdate.rollout_id == rollout)).all()
            for update in updates:
                update.state = UpdateState.RUNNING
            return {update.bot_id: update.id for update in updates}

    def resume(self, rollout_id: str) -> None:
        """An operator lets a rollout go on, unless it does."""
        with self.world.database.transaction() as session:
            rollout = session.get_one(Rollout, rollout_id)
            if rollout.state is RolloutState.PAUSED:
                transitions.resume_rollout(session, rollout, None)
                rollout.resumed_at = self.world.now

    def end(self, update_id: str, how: Ends) -> None:
        """A worker ends an update."""
        with self.world.database.transaction() as session:
            how(session, session.get_one(BotUpdate, update_id))


def succeed(session: Session, update: BotUpdate) -> None:
    outcomes.commit_healthy(session, update, update.rollout.release, f"new-{update.id}", None)


def roll_back(session: Session, update: BotUpdate) -> None:
    ending = Outcome(state=UpdateState.ROLLED_BACK, error="did not become healthy")
    outcomes.mark_rolled_back(session, update, ending, f"old-{update.id}", None, answers=True)


def hiccup(session: Session, update: BotUpdate) -> None:
    outcomes.end_failed(session, update, Outcome(state=UpdateState.FAILED, error="no registry", transient=True))


def get_stuck(session: Session, update: BotUpdate) -> None:
    instructions = "Taking it back failed too.\n\ndocker start 123456 && echo '<done>'"
    outcomes.mark_needs_attention(session, update, "did not become healthy", instructions)


@pytest.fixture
def fleet(database: Database, office: Office) -> Fleet:
    """Acme and its bots; mails of theirs go to `smtp`."""
    world = World(database)
    first, second = world.add_bots(2, mode=TenantMode.MANUAL)
    with database.transaction() as session:
        org = session.get_one(Bot, first).org
        org.name = "Acme"
        session.get_one(User, world.root_id).is_platform_admin = True
        session.get_one(Bot, second).org = org
        for name, role in (("olga", "member"), ("adam", "admin"), ("mia", "member")):
            user = User(email=f"{name}@acme.test", email_normalized=f"{name}@acme.test", name=name.title())
            session.add(user)
            session.flush()
            session.add(Membership(org_id=org.id, user_id=user.id, role=MembershipRole(role)))
            if name == "olga":
                org.owner_id = user.id
        session.flush()
        return Fleet(world, org.id, [first, second])


def addressees(smtp: Mailbox) -> list[str]:
    return sorted(str(message["To"]) for message in smtp.messages)


MANAGERS = ["adam@acme.test", "olga@acme.test"]


def test_owner_and_admins_hear_once_of_an_update_they_have_to_ask_for(
    fleet: Fleet, office: Office, smtp: Mailbox
) -> None:
    release = fleet.add_release()
    for _ in range(3):
        fleet.read_changelog(release)
    office.send_due()

    assert addressees(smtp) == MANAGERS
    assert smtp.messages[0]["Subject"] == "A new update is available for your Flotilla"
    text, html = bodies(smtp.messages[0])
    assert "bot 0 and bot 1 of Acme can be updated to 2.0.0" in " ".join(text.split())
    assert "- Faxes are answered" in text
    assert "<li" in html
    assert "greet &lt;people&gt;" in html
    assert f"{BASE_URL}/o/org-0/" in text


def test_an_organization_that_is_updated_by_itself_is_told_afterwards_only(
    fleet: Fleet, office: Office, smtp: Mailbox
) -> None:
    fleet.change(TenantUpdateConfig, fleet.org, mode=TenantMode.AUTO)
    fleet.read_changelog(fleet.add_release())

    office.send_due()

    assert smtp.messages == []


def test_nobody_hears_of_a_release_that_is_quarantined(fleet: Fleet, office: Office, smtp: Mailbox) -> None:
    release = fleet.add_release()
    with fleet.world.database.transaction() as session:
        releases.quarantine(session, session.get_one(Release, release), "bad", None)
    fleet.read_changelog(release)

    office.send_due()

    assert smtp.messages == []


def test_an_update_that_was_made_meanwhile_is_not_announced(fleet: Fleet, office: Office, smtp: Mailbox) -> None:
    release = fleet.add_release()
    fleet.read_changelog(release)
    for update in fleet.start(release).values():
        fleet.end(update, succeed)

    office.send_due()

    assert {message["Subject"] for message in smtp.messages} == {"Your Flotilla was updated. Here's what's new"}
    with fleet.world.database.reading() as session:
        available = session.scalars(sa.select(OutgoingMail).where(OutgoingMail.template == "update_available")).all()
    assert {mail.state for mail in available} == {MailState.FAILED}


def test_one_mail_tells_how_all_bots_of_an_organization_did(fleet: Fleet, office: Office, smtp: Mailbox) -> None:
    first, second = fleet.start(fleet.world.push("1.1.0")).values()
    fleet.end(first, succeed)
    office.send_due()
    assert smtp.messages == []

    fleet.end(second, roll_back)
    office.send_due()

    assert addressees(smtp) == MANAGERS
    text = " ".join(bodies(smtp.messages[0])[0].split())
    assert "Updated to 1.1.0: bot" in text
    assert "running as before with the data as it was: bot" in text


def test_a_rollout_aborted_in_between_still_tells_of_what_was_updated(
    fleet: Fleet, office: Office, smtp: Mailbox
) -> None:
    first, second = fleet.start(fleet.world.push("1.1.0")).values()
    fleet.end(first, succeed)
    fleet.change(BotUpdate, second, state=UpdateState.PENDING)
    with fleet.world.database.transaction() as session:
        transitions.abort_rollout(session, session.scalars(sa.select(Rollout)).one(), "enough", None)

    office.send_due()

    assert addressees(smtp) == MANAGERS


def test_failures_that_are_tried_again_are_not_told(fleet: Fleet, office: Office, smtp: Mailbox) -> None:
    for update in fleet.start(fleet.world.push("1.1.0")).values():
        fleet.end(update, hiccup)

    office.send_due()

    assert smtp.messages == []


def test_a_bot_that_is_stuck_calls_the_operators_with_instructions(
    fleet: Fleet, office: Office, smtp: Mailbox
) -> None:
    for update in fleet.start(fleet.world.push("1.1.0")).values():
        fleet.end(update, get_stuck)
    office.send_due()

    assert addressees(smtp) == [*MANAGERS, "root@example.com", "root@example.com"]
    called = [message for message in smtp.messages if message["To"] == "root@example.com"]
    assert {message["Subject"] for message in called} == {
        "bot 0 of Acme needs a person",
        "bot 1 of Acme needs a person",
    }
    text, html = bodies(called[0])
    assert "docker start 123456 && echo '<done>'" in text.splitlines()
    assert "&lt;done&gt;" in html
    told = next(message for message in smtp.messages if message["To"] != "root@example.com")
    assert "docker" not in bodies(told)[0]
    assert "Your provider has been told" in " ".join(bodies(told)[0].split())


def to_operators(smtp: Mailbox) -> list[EmailMessage]:
    return [message for message in smtp.messages if message["To"] == "root@example.com"]


def test_operators_hear_that_a_bad_release_ended_its_rollout(fleet: Fleet, office: Office, smtp: Mailbox) -> None:
    rollout = fleet.world.start(fleet.world.push("1.1.0"))
    fleet.world.work(fleet.world.tick(), bad)
    fleet.world.tick()
    fleet.world.tick()

    office.send_due()

    (message,) = to_operators(smtp)
    assert message["Subject"].endswith("was aborted")
    text = " ".join(bodies(message)[0].split())
    assert "the first bot to try this release failed" in text
    assert "The release is quarantined" in text
    assert f"{BASE_URL}/admin/rollouts/{rollout}" in text


def test_operators_hear_of_each_standstill_unless_it_is_over(fleet: Fleet, office: Office, smtp: Mailbox) -> None:
    rollout = fleet.world.start(fleet.world.push("1.1.0"))
    fleet.world.begin(*fleet.world.tick())
    for heard in (1, 1, 2):
        fleet.world.now += timedelta(minutes=11)
        fleet.world.tick()
        if heard == len(to_operators(smtp)):  # somebody was quicker than the mail
            fleet.resume(rollout)
        office.send_due()
        assert len(to_operators(smtp)) == heard
        fleet.resume(rollout)

    text = " ".join(bodies(to_operators(smtp)[0])[0].split())
    assert "paused the rollout of 1.1.0: no step finished for 10 minutes" in text


def test_asking_again_whom_to_tell_costs_the_same_for_one_organization_and_for_many(database: Database) -> None:
    world = World(database)
    with database.transaction() as session:
        session.get_one(User, world.root_id).is_platform_admin = True
    needed = []
    for version, number in (("2.0.0", 1), ("3.0.0", 9)):
        bots = world.add_bots(number)
        with database.transaction() as session:
            for bot in bots:
                org = session.get_one(Bot, bot).org
                session.add(Membership(org_id=org.id, user_id=org.owner_id, role=MembershipRole.ADMIN))
        rollout_id = world.start(world.push(version), bots)
        with database.transaction() as session:
            updates = session.scalars(sa.select(BotUpdate).where(BotUpdate.rollout_id == rollout_id))
            for update in updates:
                update.state = UpdateState.UPDATED
            session.flush()
            notifications.notify_outcome(session, session.get_one(Rollout, rollout_id))
            assert len(outbox.take_queued(session)) == number
        with database.transaction() as session:
            rollout = session.get_one(Rollout, rollout_id)
            with counted_statements(database.engine) as statements:
                notifications.notify_outcome(session, rollout)
            needed.append(len(statements))
            assert outbox.take_queued(session) == []
    assert needed[0] == needed[1]
