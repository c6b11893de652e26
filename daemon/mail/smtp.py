"""Handing a mail to the SMTP server: Flask-Mail, with the time limits and the check of certificates it lacks."""

from __future__ import annotations

import logging
import re
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from flask import Flask
from flask_mail import BadHeaderError, Connection, Mail, Message

from portal.settings import MailSettings

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
"""For each step until the server is ready to take a mail."""

DELIVER_SECONDS = 30.0
"""For each step of handing over a mail; servers look for spam before they answer."""

_AUTOMATIC = {"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"}
_LONGEST_REPLY = 300


class TemporaryFailure(Exception):
    """The mail could not be handed over; later it may be. The text says why."""


class ServerUnusable(TemporaryFailure):
    """The server does not answer, or not as it should: no other mail would fare better."""


class NoServerConfigured(ServerUnusable):
    """No server is set."""


class PermanentFailure(Exception):
    """The server refuses this mail for good. The text says why."""


@dataclass(frozen=True)
class OutgoingMessage:
    """A mail as it goes out: recipient, subject, both bodies, and the id that stays the same in every copy."""

    to: str
    subject: str
    text: str
    html: str
    message_id: str


def deliver(settings: MailSettings, message: OutgoingMessage) -> None:
    """Hand a mail to the server.

    Raises:
        NoServer: no server is set.
        Unusable: it does not answer, or it cannot be trusted.
        NotNow: it does not want this mail now.
        Refused: it refuses this mail for good.
    """
    with _connected(settings) as connection:
        connection.send(_message(message))


def check_connection(settings: MailSettings) -> None:
    """Sign in at the server as for a mail, but send none.

    Raises:
        Unusable: as `deliver` says.
    """
    with _connected(settings):
        pass


@contextmanager
def _connected(settings: MailSettings) -> Iterator[Connection]:
    if settings.server is None:
        raise NoServerConfigured("No mail server is set: give MAIL_SERVER its address.")
    app = _app(settings)
    try:
        with app.app_context(), _CarefulConnection(app.extensions["mail"]) as connection:
            yield connection
    except (smtplib.SMTPException, OSError, BadHeaderError, UnicodeError) as error:
        raise _explained(error, settings) from None


class _CarefulConnection(Connection):
    """Flask-Mail's connection that waits for nobody for ever and talks to no impostor."""

    def configure_host(self) -> smtplib.SMTP:
        mail = self.mail
        host: smtplib.SMTP
        if mail.use_ssl:
            host = smtplib.SMTP_SSL(mail.server, mail.port, timeout=CONNECT_SECONDS, context=_trust())
        else:
            host = smtplib.SMTP(mail.server, mail.port, timeout=CONNECT_SECONDS)
        try:
            if mail.use_tls:
                host.starttls(context=_trust())
            if mail.username and mail.password:
                host.login(mail.username, mail.password)
        except BaseException:
            host.close()
            raise
        if host.sock is not None:
            host.sock.settimeout(DELIVER_SECONDS)
        return host

    def __exit__(self, *_: object) -> None:
        # The server has the mail, or refused it: that it fails to say goodbye must not make us send a second copy.
        if self.host is not None:
            with suppress(smtplib.SMTPException, OSError):
                self.host.quit()


def _trust() -> ssl.SSLContext:
    """Whom to believe to be the mail server; read only where it is needed, because that takes a while."""
    return ssl.create_default_context()


def _app(settings: MailSettings) -> Flask:
    """Flask-Mail reads its settings from an application; this one has nothing else."""
    app = Flask("mail")
    app.config.update(
        MAIL_SERVER=settings.server,
        MAIL_PORT=settings.port,
        MAIL_USERNAME=settings.username,
        MAIL_PASSWORD=settings.password,
        MAIL_USE_TLS=settings.use_tls,
        MAIL_USE_SSL=settings.use_ssl,
        MAIL_DEFAULT_SENDER=settings.sender,
        # It would print the password and every link.
        MAIL_DEBUG=False,
        MAIL_SUPPRESS_SEND=False,
    )
    Mail(app)
    return app


def _message(parcel: OutgoingMessage) -> Message:
    message = Message(parcel.subject, [parcel.to], parcel.text, parcel.html, extra_headers=_AUTOMATIC)
    message.msgId = parcel.message_id
    return message


def _explained(error: Exception, settings: MailSettings) -> TemporaryFailure | PermanentFailure:
    match error:
        case BadHeaderError() | UnicodeError():
            return PermanentFailure("The address cannot be written into a mail.")
        case smtplib.SMTPRecipientsRefused(recipients=refused) if refused:
            code, reply = next(iter(refused.values()))
            return _answered("The mail server refused the recipient", code, reply)
        case smtplib.SMTPDataError():
            return _answered("The mail server refused the mail", error.smtp_code, error.smtp_error)
        case _:
            return ServerUnusable(_obstacle(error, f"{settings.server}:{settings.port}"))


def _obstacle(error: Exception, server: str) -> str:
    """What is wrong with the server, or with our settings: it may be put right while the mail waits."""
    match error:
        case smtplib.SMTPAuthenticationError():
            words = f"refused MAIL_USERNAME and MAIL_PASSWORD: {error.smtp_code}{_reply(error.smtp_error)}"
        case smtplib.SMTPResponseException():
            words = f"answered {error.smtp_code}{_reply(error.smtp_error)}"
        case smtplib.SMTPNotSupportedError():
            words = "does not offer what MAIL_USE_TLS or MAIL_USERNAME ask for"
        case smtplib.SMTPServerDisconnected():
            words = "stopped answering"
        case ssl.SSLCertVerificationError():
            words = f"has a certificate that is not to be trusted: {error.verify_message}"
        case TimeoutError():
            words = "did not answer in time"
        case OSError():
            words = f"cannot be reached: {error.strerror or type(error).__name__}"
        case _:
            words = f"could not be used: {type(error).__name__}"
    return f"The mail server {server} {words}"


def _answered(what: str, code: int, reply: bytes | str) -> TemporaryFailure | PermanentFailure:
    words = f"{what}: {code}{_reply(reply)}"
    return PermanentFailure(words) if code >= 500 else TemporaryFailure(words)


def _reply(reply: bytes | str) -> str:
    """What the server said, without anything long enough to be a token, for servers quote what they refuse."""
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else reply
    text = re.sub(r"\S{40,}", "…", " ".join(text.split()))[:_LONGEST_REPLY]
    return f" {text}" if text else ""
