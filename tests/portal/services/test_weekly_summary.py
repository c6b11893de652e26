"""The weekly summary: when it is queued, for whom, and what it says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from daemon.mail import sender
from portal.database import Database
from portal.models import EventTag, MailState, OutgoingMail, UpdateState, User, utcnow
from portal.services import events, weekly_summary
from portal.settings import Settings
from tests import factories
from tests.support.mail import Mailbox
from tests.support.outbox import bodies

MONDAY = datetime(2026, 11, 30, 7, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "expected"),
    [(MONDAY, 1), (MONDAY.replace(hour=6), 0), (MONDAY.replace(day=29), 0), (MONDAY.replace(hour=23), 1)],
)
def test_summary_is_queued_once_on_mondays_for_operators_who_want_it(
    database: Database, now: datetime, expected: int
) -> None:
    with database.transaction() as session:
        wanted = factories.user(session, "wanted", is_platform_admin=True, weekly_summary=True)
        factories.user(session, "silent", is_platform_admin=True)
        factories.user(session, "former", weekly_summary=True)
        factories.user(session, "disabled", is_platform_admin=True, weekly_summary=True, disabled_at=utcnow())
        for _ in range(2):
            weekly_summary.queue_due(session, now)
        queued = session.scalars(sa.select(OutgoingMail.to)).all()
    assert queued == [wanted.email] * expected


def test_mail_tells_what_happened_and_what_needs_attention(
    database: Database, settings: Settings, smtp: Mailbox
) -> None:
    with database.transaction() as session:
        root = factories.user(session, "root", is_platform_admin=True, weekly_summary=True)
        org = factories.org(session, factories.user(session))
        node = factories.node(session)
        release = factories.release(session, "2.1.0")
        rollout = factories.rollout(session, release)
        for state in (UpdateState.UPDATED, UpdateState.UPDATED, UpdateState.ROLLED_BACK):
            bot = factories.bot(session, org, node)
            factories.update(session, rollout, bot, state=state, ended_at=utcnow())
        bot.needs_attention = "Look at it."
        events.record(session, EventTag.NODE_OFFLINE, data={"name": "north"})
        weekly_summary.queue_due(session, MONDAY)
        mail_id = session.scalars(sa.select(OutgoingMail.id)).one()
    mail = replace(settings.mail, server=smtp.host, port=smtp.port, use_tls=False)
    sender.send_mail(database, replace(settings, mail=mail), mail_id, utcnow())

    text = " ".join(bodies(smtp.messages[0])[0].split())
    assert "2 updates succeeded and 1 failed" in text
    assert "Nodes went offline 1 time. There are 3 bots." in text
    assert "New releases: 2" in text
    assert f"Bots that need an operator: {bot.name} (Acme)." in text
    with database.transaction() as session:
        weekly_summary.set_wanted(session.get_one(User, root.id), wanted=False)
        session.get_one(OutgoingMail, mail_id).state = MailState.PENDING  # as if it had waited
        session.get_one(OutgoingMail, mail_id).next_attempt_at = utcnow()
    sender.send_mail(database, replace(settings, mail=mail), mail_id, utcnow())
    assert len(smtp.messages) == 1, "who ended the subscription gets no mail that waited"
