"""Reminders of invites: once, one day before the end, and only for invites that can be accepted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import Invite, InviteState, MembershipRole, OrgState, OutgoingMail, User, utcnow
from portal.services.orgs import invite_reminders, invites
from tests import factories

DAY = timedelta(days=1)


def list_reminded(session: Session) -> list[str]:
    """Return the recipients of reminders, in order."""
    found = session.query(OutgoingMail).filter_by(template="invite_reminder")
    return [mail.to for mail in found.order_by(OutgoingMail.to)]


@pytest.mark.every_database
def test_invite_is_mailed_once_more_a_day_before_it_expires(database: Database) -> None:
    now = utcnow()
    with database.transaction() as session:
        alice = factories.user(session, "alice")
        org = factories.org(session, alice)
        sent = invites.send_invite(session, org, "ann@example.com", MembershipRole.MEMBER, actor=alice, now=now)
        invites.copy_link(session, org, sent.id, actor=alice, now=now)
        for moment, expected in ((5.9, 0), (6.1, 1), (6.5, 1)):
            invite_reminders.queue_reminders(session, now + moment * DAY)
            assert len(list_reminded(session)) == expected, moment
        invites.resend_invite(session, org, sent.id, actor=alice, now=now + 6.6 * DAY)
        for moment, expected in ((7, 1), (12.7, 2), (12.8, 2), (14, 2)):
            invite_reminders.queue_reminders(session, now + moment * DAY)
            assert len(list_reminded(session)) == expected, moment


def test_invites_that_cannot_be_accepted_get_no_reminder(database: Database) -> None:
    now = utcnow()
    with database.transaction() as session:
        alice = factories.user(session, "alice")
        org = factories.org(session, alice)
        carol = factories.user(session, "carol")
        membership = factories.membership(session, org, carol, MembershipRole.ADMIN)

        def invite(email: str, actor: User) -> Invite:
            return invites.send_invite(session, org, email, MembershipRole.MEMBER, actor=actor, now=now - 6.5 * DAY)

        invite("revoked@example.com", alice).state = InviteState.REVOKED
        invite("expired@example.com", alice).expires_at = now
        invite("orphaned@example.com", carol)
        membership.role = MembershipRole.MEMBER
        invite("valid@example.com", alice)
        org.state = OrgState.DELETING
        session.flush()
        invite_reminders.queue_reminders(session, now)
        assert list_reminded(session) == []
        org.state = OrgState.ACTIVE
        session.flush()
        invite_reminders.queue_reminders(session, now)
        assert list_reminded(session) == ["valid@example.com"]
