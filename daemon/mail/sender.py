"""Sending one mail of the outbox.

1. Claim an attempt.
2. Compose the letter from the rows as they are now, and store the fingerprint of its link.
3. Hand it to the mail server.
4. Write down what came of it.

A worker that dies in between leaves the mail claimed; when the claim has run out the mail is sent again, under the
same Message-ID and with the same link.
"""

from __future__ import annotations

import logging
from datetime import datetime
from email.utils import parseaddr

from daemon.mail.composers import COMPOSERS
from daemon.mail.emails import EmailContext, Obsolete
from daemon.mail.rendering import render, subject
from daemon.mail.smtp import (
    NoServerConfigured,
    OutgoingMessage,
    PermanentFailure,
    ServerUnusable,
    TemporaryFailure,
    deliver,
)
from portal.database import Database
from portal.models import OutgoingMail, utcnow
from portal.services.mail import delivery
from portal.settings import Settings

logger = logging.getLogger(__name__)


def send_mail(database: Database, settings: Settings, mail_id: str, now: datetime) -> None:
    """Send a mail if it is due and nobody else is sending it."""
    with database.transaction() as session:
        mail = delivery.claim_attempt(session, mail_id, _domain(settings), now)
    if mail is None:
        return
    try:
        deliver(settings.mail, _compose(database, settings, mail, now))
    except (Obsolete, PermanentFailure) as error:
        _log(mail, "is not sent", error)
        with database.transaction() as session:
            delivery.mark_refused(session, mail, str(error))
    except TemporaryFailure as error:
        _log(mail, "has to wait", error)
        with database.transaction() as session:
            settle = (
                delivery.mark_waiting_for_server if isinstance(error, NoServerConfigured) else delivery.mark_deferred
            )
            settle(session, mail, str(error), utcnow())
            if isinstance(error, ServerUnusable):
                delivery.defer_others(session, mail, utcnow())
    except Exception as error:
        with database.transaction() as session:
            reason = f"An error of ours ({type(error).__name__}); the worker's log tells more."
            delivery.mark_deferred(session, mail, reason, utcnow())
        raise
    else:
        with database.transaction() as session:
            delivery.mark_sent(session, mail, utcnow())


def _compose(database: Database, settings: Settings, mail: OutgoingMail, now: datetime) -> OutgoingMessage:
    with database.transaction() as session:
        email = COMPOSERS[mail.template](EmailContext(session, settings, mail, now))
    about = {"product": settings.product_name, "home": settings.base_url}
    text, html = render(email, about, "text"), render(email, about, "html")
    return OutgoingMessage(mail.to, subject(email), text, html, mail.message_id or "")


def _domain(settings: Settings) -> str:
    return parseaddr(settings.mail.sender)[1].rpartition("@")[2] or "localhost"


def _log(mail: OutgoingMail, what: str, error: Exception) -> None:
    logger.warning("mail %s (%s, attempt %d) %s: %s", mail.id, mail.template, mail.attempts, what, error)
