"""What a mail is made of, once it is known what it says."""

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
    """The reason for a mail is gone, such as an invite that was revoked; the text says which."""


@dataclass(frozen=True)
class Email:
    """A mail in words.

    Attributes:
        template: name of the text in `templates/mail`.
        subject: one line.
        names: what people typed, which may be anything; the rendering makes it harmless.
        facts: what is ours: links, moments, roles, releases.
    """

    template: str
    subject: str
    names: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EmailContext:
    """What composing a letter needs.

    Attributes:
        session: a transaction, in which the fingerprints of fresh links are stored before the mail leaves.
        settings: the address of the portal, the key for links, the product's name.
        mail: the row of the outbox.
        now: the present.
    """

    session: Session
    settings: Settings
    mail: OutgoingMail
    now: datetime

    def row(self, kind: type[Row], key: str) -> Row:
        """The row whose id the mail's context has under `key`.

        Raises:
            NoReason: it was deleted.
        """
        found = self.session.get(kind, self.mail.context[key])
        if found is None:
            raise Obsolete("What this mail is about was deleted before it could be sent.")
        return found

    def link(self, path: str) -> str:
        """An address in the portal, from `BASE_URL` and nothing else.

        Args:
            path: with its leading slash.
        """
        return self.settings.base_url + path


Composer = Callable[[EmailContext], Email]
"""Looks at the rows as they are now and decides what a mail says.

Raises:
    NoReason: nothing should be sent any more.
"""
