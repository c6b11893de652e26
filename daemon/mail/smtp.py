"""Delivery of emails to the SMTP server through Flask-Mail. Used by the sender and `flotilla doctor`.

Flask-Mail builds and sends the messages. This module adds time limits, certificate checks and the sorting of errors
into temporary and permanent ones.
"""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.charset import QP, Charset
from email.mime.text import MIMEText

from flask import Flask
from flask_mail import BadHeaderError, Connection, Mail, Message

from daemon.network.deadlines import Deadline, DeadlineExceeded, connect
from portal.settings import MailSettings

CONNECT_SECONDS = 10.0
"""Time limit of each step until the server is ready to accept an email."""

DELIVER_SECONDS = 30.0
"""Time limit of each step of a delivery. It is longer because servers check for spam before they reply."""

TOTAL_SECONDS = 90.0
"""Time limit of all steps together. It is shorter than the claim on an attempt (`delivery.ATTEMPT_LEASE`)."""

_AUTOMATIC_HEADERS = {"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All"}
_MAX_REPLY_CHARACTERS = 300

_QUOTED_PRINTABLE = Charset("utf-8")
_QUOTED_PRINTABLE.body_encoding = QP

# Flask-Mail only works within an application context. One empty application per process provides it; the settings
# of the server do not come from this application but from `Mail.init_mail`.
_application = Flask(__name__)
Mail(_application)


class TemporaryFailure(Exception):
    """The email was not delivered, but a later attempt may succeed. The message gives the reason."""


class ServerUnusable(TemporaryFailure):
    """The server cannot be used for any email: it does not answer, or its answers make no sense."""


class NoServerConfigured(ServerUnusable):
    """MAIL_SERVER is not set."""


class PermanentFailure(Exception):
    """The server will never accept this email. The message gives the reason."""


@dataclass(frozen=True)
class OutgoingMessage:
    """A rendered email: recipient, subject, both bodies, and the Message-ID, which is the same in every attempt."""

    to: str
    subject: str
    text: str
    html: str
    message_id: str


def deliver(settings: MailSettings, message: OutgoingMessage) -> None:
    """Deliver an email to the server.

    Raises:
        NoServerConfigured: MAIL_SERVER is not set.
        ServerUnusable: the server does not answer or cannot be trusted.
        TemporaryFailure: the server does not accept the email now.
        PermanentFailure: the server will never accept the email.
    """
    with _connect(settings) as connection:
        connection.send(_build_message(message, settings.sender))


def check_connection(settings: MailSettings) -> None:
    """Connect to the server and sign in, without sending an email.

    Raises:
        ServerUnusable: as for `deliver`.
    """
    with _connect(settings):
        pass


@contextmanager
def _connect(settings: MailSettings) -> Iterator[Connection]:
    if settings.server is None:
        raise NoServerConfigured("No mail server is configured: set MAIL_SERVER.")
    mail = Mail()
    mail.state = mail.init_mail(
        {
            "MAIL_SERVER": settings.server,
            "MAIL_PORT": settings.port,
            "MAIL_USERNAME": settings.username,
            "MAIL_PASSWORD": settings.password,
            "MAIL_USE_TLS": settings.use_tls,
            "MAIL_USE_SSL": settings.use_ssl,
        }
    )
    try:
        with (
            Deadline(TOTAL_SECONDS, accept_late_success=True),
            _application.app_context(),
            _BoundedConnection(mail) as connection,
        ):
            yield connection
    except (smtplib.SMTPException, OSError, BadHeaderError, UnicodeError) as error:
        raise _to_failure(error, settings) from None


class _PlainClient(smtplib.SMTP):
    """A client whose connection obeys deadlines, during the handshake of TLS, too."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return connect(host, port, timeout)


class _TLSClient(smtplib.SMTP_SSL, _PlainClient):
    """The same with TLS from the start, which the library adds to the connection of the other class."""


class _BoundedConnection(Connection):
    """Flask-Mail's connection with time limits and certificate checks."""

    def configure_host(self) -> smtplib.SMTP:
        mail = self.mail
        host: smtplib.SMTP
        if mail.use_ssl:
            context = ssl.create_default_context()
            host = _TLSClient(mail.server, mail.port, timeout=CONNECT_SECONDS, context=context)
        else:
            host = _PlainClient(mail.server, mail.port, timeout=CONNECT_SECONDS)
        try:
            if mail.use_tls:
                host.starttls(context=ssl.create_default_context())
            if mail.username and mail.password:
                host.login(mail.username, mail.password)
        except BaseException:
            host.close()
            raise
        if host.sock is not None:
            host.sock.settimeout(DELIVER_SECONDS)
        return host

    def __exit__(self, *_: object) -> None:
        # The outcome is known by now. A failing QUIT must not cause a second delivery.
        if self.host is not None:
            with suppress(smtplib.SMTPException, OSError):
                self.host.quit()


class _EncodedMessage(Message):
    """A message with quoted-printable bodies.

    Flask-Mail's own 8bit bodies may have lines over 998 bytes, which strict servers refuse (RFC 5321, 4.5.3.1.6).
    """

    def _mimetext(self, text: str | None, subtype: str = "plain") -> MIMEText:
        return MIMEText(text or "", subtype, _QUOTED_PRINTABLE)  # type: ignore[arg-type]  # a Charset is accepted


def _build_message(message: OutgoingMessage, sender: str) -> Message:
    built = _EncodedMessage(
        message.subject, [message.to], message.text, message.html, sender=sender, extra_headers=_AUTOMATIC_HEADERS
    )
    built.msgId = message.message_id
    return built


def _to_failure(error: Exception, settings: MailSettings) -> TemporaryFailure | PermanentFailure:
    match error:
        case BadHeaderError() | UnicodeError():
            return PermanentFailure("The email address is not valid in an email header.")
        case smtplib.SMTPRecipientsRefused(recipients=refused) if refused:
            code, reply = next(iter(refused.values()))
            return _to_refusal("The mail server refused the recipient", code, reply)
        case smtplib.SMTPDataError():
            return _to_refusal("The mail server refused the email", error.smtp_code, error.smtp_error)
        case _:
            return ServerUnusable(f"The mail server {settings.server}:{settings.port} {_describe_problem(error)}")


def _describe_problem(error: Exception) -> str:
    """Describe what is wrong with the server or with the settings. Both can be corrected while the email waits."""
    match error:
        case smtplib.SMTPAuthenticationError():
            problem = f"refused MAIL_USERNAME and MAIL_PASSWORD: {error.smtp_code}{_clean_reply(error.smtp_error)}"
        case smtplib.SMTPResponseException():
            problem = f"answered {error.smtp_code}{_clean_reply(error.smtp_error)}"
        case smtplib.SMTPNotSupportedError():
            problem = "does not support what MAIL_USE_TLS or MAIL_USERNAME require"
        case smtplib.SMTPServerDisconnected():
            problem = "stopped answering"
        case ssl.SSLCertVerificationError():
            problem = f"has a certificate that cannot be trusted: {error.verify_message}"
        case DeadlineExceeded():
            problem = f"did not answer completely: it {error}"
        case TimeoutError():
            problem = "did not answer in time"
        case OSError():
            problem = f"cannot be reached: {error.strerror or type(error).__name__}"
        case _:
            problem = f"cannot be used: {type(error).__name__}"
    return problem


def _to_refusal(summary: str, code: int, reply: bytes | str) -> TemporaryFailure | PermanentFailure:
    text = f"{summary}: {code}{_clean_reply(reply)}"
    return PermanentFailure(text) if code >= 500 else TemporaryFailure(text)


def _clean_reply(reply: bytes | str) -> str:
    """Return the server's reply without long words, which may be tokens: servers quote what they refuse."""
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else reply
    text = re.sub(r"\S{40,}", "…", " ".join(text.split()))[:_MAX_REPLY_CHARACTERS]
    return f" {text}" if text else ""
