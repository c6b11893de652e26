"""Sending one email of the outbox. Used by the job `send_mail`.

1. Claim an attempt.
2. Compose the email from the current rows and store the hash of its link.
3. Deliver it to the mail server.
4. Record the outcome.

If a worker dies in between, the email stays claimed. Once the claim has expired, the email is sent again with the
same Message-ID and the same link.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime
from email.utils import parseaddr

from sqlalchemy.exc import SQLAlchemyError

from daemon.mail.composers import COMPOSERS
from daemon.mail.emails import EmailContext, Obsolete
from daemon.mail.rendering import render, render_subject
from daemon.mail.smtp import (
    NoServerConfigured,
    OutgoingMessage,
    PermanentFailure,
    ServerUnusable,
    TemporaryFailure,
    deliver,
)
from portal.database import Database, is_unavailable
from portal.models import OutgoingMail, utcnow
from portal.services.mail import delivery
from portal.settings import Settings

_RETRY_SECONDS = 1.0

logger = logging.getLogger(__name__)


def send_mail(database: Database, settings: Settings, mail_id: str, now: datetime) -> None:
    """Send an email if it is due and no other worker is sending it.

    Args:
        database: where the outbox is.
        settings: the mail server, the portal's address and the key for links.
        mail_id: the outbox row.
        now: the moment at which the attempt begins. The outcome is recorded with the moment at which it is known,
            because a slow server takes minutes.
    """
    with database.transaction() as session:
        mail = delivery.claim_attempt(session, mail_id, _sender_domain(settings), now)
    if mail is None:
        return
    try:
        deliver(settings.mail, _compose(database, settings, mail, now))
    except Obsolete as error:
        _log_failure(mail, "is not needed", error)
        with database.transaction() as session:
            delivery.mark_cancelled(session, mail, str(error))
    except PermanentFailure as error:
        _log_failure(mail, "was refused", error)
        with database.transaction() as session:
            delivery.mark_failed(session, mail, str(error))
    except TemporaryFailure as error:
        _log_failure(mail, "will be retried", error)
        _defer(database, mail, error, utcnow())
    except Exception as error:
        with database.transaction() as session:
            reason = f"Internal error ({type(error).__name__}). See the worker's log for details."
            delivery.mark_deferred(session, mail, reason, utcnow())
        raise
    else:
        _record_acceptance(database, mail, give_up_at=now + delivery.ATTEMPT_LEASE)


def _record_acceptance(database: Database, mail: OutgoingMail, give_up_at: datetime) -> None:
    """Record that the server accepted the email. Without this record, it is sent again when its claim expires."""
    while True:
        try:
            with database.transaction() as session:
                delivery.mark_sent(session, mail, utcnow())
        except SQLAlchemyError as error:
            if not is_unavailable(error) or utcnow() >= give_up_at:
                raise
            logger.warning("email %s was accepted, which cannot be recorded yet: %s", mail.id, type(error).__name__)
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _defer(database: Database, mail: OutgoingMail, error: TemporaryFailure, now: datetime) -> None:
    with database.transaction() as session:
        if isinstance(error, NoServerConfigured):
            delivery.mark_waiting_for_server(session, mail, str(error), now)
        else:
            delivery.mark_deferred(session, mail, str(error), now)
        if isinstance(error, ServerUnusable):
            delivery.defer_others(session, mail, now)


def _compose(database: Database, settings: Settings, mail: OutgoingMail, now: datetime) -> OutgoingMessage:
    with database.transaction() as session:
        email = COMPOSERS[mail.template](EmailContext(session, settings, mail, now))
    about = {"product": settings.product_name, "home": settings.base_url}
    text, html = render(email, about, "text"), render(email, about, "html")
    return OutgoingMessage(mail.to, render_subject(email), text, html, mail.message_id or "")


def _sender_domain(settings: Settings) -> str:
    return parseaddr(settings.mail.sender)[1].rpartition("@")[2] or "localhost"


def _log_failure(mail: OutgoingMail, outcome: str, error: Exception) -> None:
    logger.warning("email %s (%s, attempt %d) %s: %s", mail.id, mail.template, mail.attempts, outcome, error)
