"""Erasure of a user's personal data from all tables, when the user deletes the account. Used by `deletion`.

Rows that others refer to stay without the data: the account, invites, mails, and events with what happened.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import (
    Event,
    EventPersonalData,
    EventTag,
    Invite,
    MailState,
    OneTimeToken,
    OutgoingMail,
    UpdateNotice,
    User,
    UserSession,
)
from portal.rules import email_addresses
from portal.services.orgs import invite_closing

DELETED_USER_NAME = "deleted user"
"""The name that pages and logs show for a deleted account."""


def erase_personal_data(session: Session, user: User, now: datetime) -> None:
    """Erase name, password, sessions and links of a user, and the user's addresses from events, invites and mails.

    Args:
        session: a transaction that has locked the account.
        user: the user.
        now: the current time.
    """
    addresses = _list_addresses(session, user)
    _erase_from_invites(session, user, addresses, now)
    _erase_from_events(session, user, addresses)
    _erase_from_mails(session, user, addresses)
    _delete(session, OneTimeToken, (OneTimeToken.user_id == user.id) | OneTimeToken.email_normalized.in_(addresses))
    _delete(session, UserSession, UserSession.user_id == user.id)
    _delete(session, UpdateNotice, UpdateNotice.user_id == user.id)
    user.name, user.email = DELETED_USER_NAME, ""
    # The column is unique. This value is no valid email, so the old email is free for another account.
    user.email_normalized = f"deleted:{user.id}"
    user.password_hash = user.last_org_id = None
    user.is_platform_admin = False
    user.disabled_at = user.deleted_at = now
    session.flush()


def _list_addresses(session: Session, user: User) -> set[str]:
    """List the user's current and former addresses, normalized, without those that another account has now."""
    changes = sa.select(EventPersonalData.data).join(Event, Event.id == EventPersonalData.event_id)
    changes = changes.where(EventPersonalData.user_id == user.id, Event.tag == EventTag.USER_EMAIL_CHANGED)
    former = {email_addresses.normalize(data["old"]) for data in session.scalars(changes)}
    of_others = sa.select(User.email_normalized).where(User.id != user.id, User.email_normalized.in_(former))
    return {user.email_normalized, *former} - set(session.scalars(of_others))


def _erase_from_events(session: Session, user: User, addresses: Collection[str]) -> None:
    is_about_user = EventPersonalData.email_normalized.in_(addresses) | (EventPersonalData.user_id == user.id)
    _delete(session, EventPersonalData, is_about_user)


def _erase_from_invites(session: Session, user: User, addresses: Collection[str], now: datetime) -> None:
    is_to_user = Invite.email_normalized.in_(addresses)
    # An invite without its address can be neither accepted nor mailed again.
    invite_closing.close_invites(session, is_to_user, "account deleted", actor=user, now=now)
    session.execute(
        sa.update(Invite)
        .where(is_to_user | (Invite.accepted_by == user.id))
        .values(email="", email_normalized=sa.literal("deleted:") + Invite.id)
        .execution_options(synchronize_session=False)
    )


def _erase_from_mails(session: Session, user: User, addresses: Collection[str]) -> None:
    is_to_user = sa.func.lower(OutgoingMail.to).in_(addresses) | (
        OutgoingMail.context["user_id"].as_string() == user.id
    )
    is_open = OutgoingMail.state.in_([MailState.PENDING, MailState.SENDING, MailState.FAILED])
    session.execute(
        sa.update(OutgoingMail)
        .where(is_to_user)
        .values(
            to="",
            state=sa.case((is_open, MailState.CANCELLED), else_=OutgoingMail.state),
            # Answers of mail servers often repeat the address.
            last_error=sa.case((is_open, "The account of the recipient was deleted."), else_=None),
        )
        .execution_options(synchronize_session=False)
    )


def _delete(session: Session, table: type, condition: sa.ColumnElement[bool]) -> None:
    session.execute(sa.delete(table).where(condition).execution_options(synchronize_session=False))
