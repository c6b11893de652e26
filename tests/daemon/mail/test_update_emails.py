"""Emails about updates: recipients, texts, and emails that became obsolete."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
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
from portal.services.mail import delivery, outbox
from portal.services.releases import changelogs, releases
from portal.services.rollouts import notifications, outcomes, transitions
from portal.services.rollouts.notifications import COLLECT_RELEASES, RELEASE_MAIL_SPACING
from portal.services.rollouts.outcomes import Outcome
from tests import factories
from tests.daemon.mail.conftest import BASE_URL
from tests.support.mail import Mailbox
from tests.support.outbox import OutboxWorker, bodies
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
        """Push a release whose changelog was not read yet, and return its id."""
        release = self.world.push("2.0.0")
        self.change(Release, release, changelog=None)
        return release

    def read_changelog(self, release: str) -> None:
        """Record the changelog as a worker does."""
        with self.world.database.transaction() as session:
            read = changelogs.record_changelog(session, release, CHANGELOG, utcnow())
            notifications.notify_update_available(session, read, utcnow())

    def announce(self, version: str, now: datetime) -> None:
        """Push a release and read its changelog at a moment."""
        release = self.world.push(version)
        with self.world.database.transaction() as session:
            notifications.notify_update_available(session, session.get_one(Release, release), now)

    def change(self, kind: Any, key: str, **values: Any) -> None:
        """Change a row without its service."""
        with self.world.database.transaction() as session:
            row = session.get_one(kind, key)
            for name, value in values.items():
                setattr(row, name, value)

    def start(self, release: str) -> dict[str, str]:
        """Start the updates of both bots, and return the ids of the updates by bot."""
        rollout = self.world.start(release, self.bots)
        with self.world.database.transaction() as session:
            updates = session.scalars(sa.select(BotUpdate).where(BotUpdate.rollout_id == rollout)).all()
            for update in updates:
                update.state = UpdateState.RUNNING
            return {update.bot_id: update.id for update in updates}

    def resume(self, rollout_id: str) -> None:
        """Resume a paused rollout."""
        with self.world.database.transaction() as session:
            rollout = session.get_one(Rollout, rollout_id)
            if rollout.state is RolloutState.PAUSED:
                transitions.resume_rollout(session, rollout, self.world.now, actor=None)

    def end(self, update_id: str, how: Ends) -> None:
        """End an update as a worker does."""
        with self.world.database.transaction() as session:
            how(session, session.get_one(BotUpdate, update_id))


def succeed(session: Session, update: BotUpdate) -> None:
    outcomes.commit_healthy(session, update, f"new-{update.id}", None, utcnow())


def roll_back(session: Session, update: BotUpdate) -> None:
    outcome = Outcome(state=UpdateState.ROLLED_BACK, error="did not become healthy")
    outcomes.mark_rolled_back(session, update, outcome, f"old-{update.id}", None, answers=True, now=utcnow())


def fail_transiently(session: Session, update: BotUpdate) -> None:
    outcome = Outcome(state=UpdateState.FAILED, error="no registry", transient=True)
    outcomes.end_failed(session, update, outcome, utcnow())


def fail_rollback(session: Session, update: BotUpdate) -> None:
    instructions = "The rollback failed too.\n\ndocker start 123456 && echo '<done>'"
    outcomes.mark_needs_attention(session, update, "did not become healthy", instructions, utcnow())


@pytest.fixture
def fleet(database: Database, mail_worker: OutboxWorker) -> Fleet:
    """Return Acme with two bots and three members. Emails are sent to `smtp`."""
    world = World(database)
    first, second = world.add_bots(2, mode=TenantMode.MANUAL)
    with database.transaction() as session:
        org = session.get_one(Bot, first).org
        org.name = "Acme"
        session.get_one(User, world.root_id).is_platform_admin = True
        session.get_one(Bot, second).org = org
        for name, role in (("olga", "member"), ("adam", "admin"), ("mia", "member")):
            user = factories.user(session, name, email=f"{name}@acme.test")
            factories.membership(session, org, user, MembershipRole(role))
            if name == "olga":
                org.owner_id = user.id
        session.flush()
        return Fleet(world, org.id, [first, second])


def list_recipients(smtp: Mailbox) -> list[str]:
    return sorted(str(message["To"]) for message in smtp.messages)


MANAGERS = ["adam@acme.test", "olga@acme.test"]


def test_owner_and_admins_get_one_email_about_an_update_they_have_to_start(
    fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox
) -> None:
    release = fleet.add_release()
    for _ in range(3):
        fleet.read_changelog(release)
    mail_worker.send_due(utcnow() + COLLECT_RELEASES)

    assert list_recipients(smtp) == MANAGERS
    assert smtp.messages[0]["Subject"] == "A new update is available for your Flotilla"
    text, html = bodies(smtp.messages[0])
    assert "bot 0 and bot 1 of Acme can be updated to 2.0.0" in " ".join(text.split())
    assert "- Faxes are answered" in text
    assert "<li" in html
    assert "greet &lt;people&gt;" in html
    assert f"{BASE_URL}/o/org-0/" in text


def test_an_organization_on_automatic_update_gets_no_email_before_the_update(
    fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox
) -> None:
    fleet.change(TenantUpdateConfig, fleet.org, mode=TenantMode.AUTO)
    fleet.read_changelog(fleet.add_release())

    mail_worker.send_due(utcnow() + COLLECT_RELEASES)

    assert smtp.messages == []


def list_announced(smtp: Mailbox) -> list[str]:
    """Return the versions that mails to Olga announce, in the order of the mails."""
    to_olga = [message for message in smtp.messages if message["To"] == "olga@acme.test"]
    return [
        re.findall(r"can be updated to ([\d.]+\d)", " ".join(bodies(message)[0].split()))[0] for message in to_olga
    ]


def test_several_releases_in_a_row_make_one_email_about_the_newest(
    fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox
) -> None:
    start = utcnow()
    for number in range(4):
        now = start + number * timedelta(minutes=3)
        mail_worker.send_due(now)
        fleet.announce(f"2.0.{number}", now)
    assert smtp.messages == []
    # The first release decides when the email is sent, so that frequent releases do not postpone it forever.
    mail_worker.send_due(start + COLLECT_RELEASES)
    assert list_announced(smtp) == ["2.0.3"]


def test_frequent_releases_make_one_email_a_day(fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox) -> None:
    start = utcnow()
    for hour in range(51):
        now = start + timedelta(hours=hour)
        fleet.announce(f"2.{hour}.1", now)
        mail_worker.send_due(now + COLLECT_RELEASES)
    assert list_announced(smtp) == ["2.0.1", "2.25.1", "2.50.1"]
    with fleet.world.database.reading() as session:
        assert session.query(OutgoingMail).count() == len(MANAGERS)


def test_a_release_that_arrives_while_the_email_is_being_sent_is_mailed_later(
    fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox
) -> None:
    start = utcnow()
    fleet.announce("2.0.0", start)
    now = start + COLLECT_RELEASES
    with fleet.world.database.transaction() as session:
        (first, *_) = delivery.list_due(session, now, repeated=False)
        claimed = delivery.claim_attempt(session, first, "example.com", now)
    assert claimed is not None
    fleet.announce("2.0.1", now)
    with fleet.world.database.transaction() as session:
        assert not delivery.mark_sent(session, claimed, now)
    mail_worker.send_due(now + timedelta(hours=1))
    assert first in {mail.id for mail in list_pending(fleet)}
    mail_worker.send_due(now + RELEASE_MAIL_SPACING + delivery.ATTEMPT_LEASE)
    assert list_pending(fleet) == []


def list_pending(fleet: Fleet) -> list[OutgoingMail]:
    with fleet.world.database.reading() as session:
        return session.query(OutgoingMail).filter_by(state=MailState.PENDING).all()


def test_releases_of_two_images_are_both_mailed(fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox) -> None:
    other = f"{factories.REPOSITORY}:canary"
    now = utcnow()
    fleet.announce("2.0.0", now)
    with fleet.world.database.transaction() as session:
        session.get_one(Bot, fleet.bots[1]).image = other
        release = factories.release(session, "3.0.0")
        factories.polled_image(session, release, other)
        notifications.notify_update_available(session, release, now)
    mail_worker.send_due(now + COLLECT_RELEASES)
    assert sorted(list_announced(smtp)) == ["2.0.0", "3.0.0"]


def test_an_update_that_a_newer_update_has_replaced_is_not_mailed(
    fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox
) -> None:
    for version in ("1.1.0", "1.2.0"):
        for update in fleet.start(fleet.world.push(version)).values():
            fleet.end(update, succeed)
    mail_worker.send_due()
    assert list_recipients(smtp) == MANAGERS
    assert "was updated to 1.2.0" in " ".join(bodies(smtp.messages[0])[0].split()).replace("were", "was")


def test_a_quarantined_release_is_not_announced(fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox) -> None:
    release = fleet.add_release()
    with fleet.world.database.transaction() as session:
        releases.quarantine(session, session.get_one(Release, release), "bad", utcnow(), actor=None)
    fleet.read_changelog(release)

    mail_worker.send_due(utcnow() + COLLECT_RELEASES)

    assert smtp.messages == []


def test_an_update_that_has_been_made_is_not_announced(
    fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox
) -> None:
    release = fleet.add_release()
    fleet.read_changelog(release)
    for update in fleet.start(release).values():
        fleet.end(update, succeed)

    mail_worker.send_due(utcnow() + COLLECT_RELEASES)

    assert {message["Subject"] for message in smtp.messages} == {"Your Flotilla was updated. Here's what's new"}
    with fleet.world.database.reading() as session:
        available = session.scalars(sa.select(OutgoingMail).where(OutgoingMail.template == "update_available")).all()
    assert {mail.state for mail in available} == {MailState.CANCELLED}


def test_one_email_lists_the_outcome_of_all_bots_of_an_organization(
    fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox
) -> None:
    first, second = fleet.start(fleet.world.push("1.1.0")).values()
    fleet.end(first, succeed)
    mail_worker.send_due()
    assert smtp.messages == []

    fleet.end(second, roll_back)
    mail_worker.send_due()

    assert list_recipients(smtp) == MANAGERS
    text = " ".join(bodies(smtp.messages[0])[0].split())
    assert "of Acme was updated to 1.1.0" in text
    assert "failed. Version and data are as before." in text


def test_the_outcome_of_an_aborted_rollout_is_mailed(fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox) -> None:
    first, second = fleet.start(fleet.world.push("1.1.0")).values()
    fleet.end(first, succeed)
    fleet.change(BotUpdate, second, state=UpdateState.PENDING)
    with fleet.world.database.transaction() as session:
        transitions.abort_rollout(session, session.scalars(sa.select(Rollout)).one(), "enough", utcnow(), actor=None)

    mail_worker.send_due()

    assert list_recipients(smtp) == MANAGERS


def test_failures_that_are_retried_are_not_mailed(fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox) -> None:
    for update in fleet.start(fleet.world.push("1.1.0")).values():
        fleet.end(update, fail_transiently)

    mail_worker.send_due()

    assert smtp.messages == []


def test_operators_get_the_instructions_for_a_bot_that_needs_attention(
    fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox
) -> None:
    for update in fleet.start(fleet.world.push("1.1.0")).values():
        fleet.end(update, fail_rollback)
    mail_worker.send_due()

    assert list_recipients(smtp) == [*MANAGERS, "root@example.com", "root@example.com"]
    to_root = [message for message in smtp.messages if message["To"] == "root@example.com"]
    assert {message["Subject"] for message in to_root} == {
        "bot 0 of Acme needs attention",
        "bot 1 of Acme needs attention",
    }
    text, html = bodies(to_root[0])
    assert "docker start 123456 && echo '<done>'" in text.splitlines()
    assert "&lt;done&gt;" in html
    to_manager = next(message for message in smtp.messages if message["To"] != "root@example.com")
    assert "docker" not in bodies(to_manager)[0]
    assert "Your provider was notified" in " ".join(bodies(to_manager)[0].split())


def list_to_operators(smtp: Mailbox) -> list[EmailMessage]:
    return [message for message in smtp.messages if message["To"] == "root@example.com"]


def test_operators_get_an_email_when_failures_abort_a_rollout(
    fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox
) -> None:
    rollout = fleet.world.start(fleet.world.push("1.1.0"))
    fleet.world.work(fleet.world.tick(), bad)
    fleet.world.tick()
    fleet.world.tick()

    mail_worker.send_due()

    (message,) = list_to_operators(smtp)
    assert message["Subject"].endswith("was aborted")
    text = " ".join(bodies(message)[0].split())
    assert "the first bot to try this release failed" in text
    assert "The release is quarantined" in text
    assert f"{BASE_URL}/admin/rollouts/{rollout}" in text


def test_operators_get_an_email_about_each_stall_that_is_not_over(
    fleet: Fleet, mail_worker: OutboxWorker, smtp: Mailbox
) -> None:
    rollout = fleet.world.start(fleet.world.push("1.1.0"))
    fleet.world.begin(*fleet.world.tick())
    for sent in (1, 1, 2):
        fleet.world.now += timedelta(minutes=11)
        fleet.world.tick()
        if sent == len(list_to_operators(smtp)):  # resumed before the email is sent
            fleet.resume(rollout)
        mail_worker.send_due()
        assert len(list_to_operators(smtp)) == sent
        fleet.resume(rollout)

    text = " ".join(bodies(list_to_operators(smtp)[0])[0].split())
    assert "paused the rollout of 1.1.0: no step finished for 10 minutes" in text


def test_the_number_of_queries_does_not_depend_on_the_number_of_organizations(database: Database) -> None:
    world = World(database)
    with database.transaction() as session:
        session.get_one(User, world.root_id).is_platform_admin = True
    needed = []
    for version, number in (("2.0.0", 1), ("3.0.0", 9)):
        bots = world.add_bots(number)
        with database.transaction() as session:
            for bot in bots:
                org = session.get_one(Bot, bot).org
                factories.membership(session, org, org.owner, MembershipRole.ADMIN)
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
