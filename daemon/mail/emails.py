"""The parts of an email before it is rendered: template, subject and values. Used by the composers and the sender."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from portal.models import Base, OutgoingMail
from portal.settings import Settings

Row = TypeVar("Row", bound=Base)


class Obsolete(Exception):
    """The email is no longer needed, for example because its invite was revoked. The message gives the reason."""


@dataclass(frozen=True)
class Email:
    """An email that is not rendered yet.

    Attributes:
        template: name of the template in `templates/mail`, without its suffix.
        subject: the subject line.
        names: values that people typed. They are untrusted, so the renderer makes them safe.
        facts: values from Flotilla itself: links, moments, roles, releases.
    """

    template: str
    subject: str
    names: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EmailContext:
    """Everything a composer needs.

    Attributes:
        session: a transaction; it is committed before the email leaves, so that the hashes of new links are stored.
        settings: the address of the portal, the key for links and the product's name.
        mail: the outbox row.
        now: the moment of this attempt, in UTC.
    """

    session: Session
    settings: Settings
    mail: OutgoingMail
    now: datetime

    def row(self, kind: type[Row], key: str) -> Row:
        """Return the row whose id is stored under `key` in the context of the outbox row.

        Raises:
            Obsolete: the row was deleted.
        """
        found = self.session.get(kind, self.mail.context[key])
        if found is None:
            raise Obsolete("The subject of this email was deleted before the email could be sent.")
        return found

    def link(self, path: str) -> str:
        """Return the full address of a page of the portal.

        The host comes from `BASE_URL` and never from a request, so that a forged Host header cannot change a link.

        Args:
            path: the path with its leading slash.
        """
        return self.settings.base_url + path


Composer = Callable[[EmailContext], Email]
"""Composes an email from the current rows.

Raises:
    Obsolete: the email is no longer needed.
"""
