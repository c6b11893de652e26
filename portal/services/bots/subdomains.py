"""Subdomains of bots: suggest, check and find free ones. Used when a bot is adopted or created."""

from __future__ import annotations

import re
from itertools import count

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot
from portal.services.errors import ConflictError, InvalidError

_MAX_LENGTH = 63
# A host name with dashes as its third and fourth character is the encoding of a name in another script (RFC 5890).
_SUBDOMAIN = re.compile(r"(?!..--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def suggest_subdomain(name: str) -> str:
    """Derive a subdomain from a name: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:_MAX_LENGTH].strip("-")


def require_free_subdomain(session: Session, subdomain: str) -> None:
    """Check that a subdomain is valid and free.

    Raises:
        InvalidError: the subdomain is not valid.
        ConflictError: another bot has the subdomain.
    """
    if not _SUBDOMAIN.fullmatch(subdomain):
        raise InvalidError(
            f"{subdomain!r} is not a valid subdomain. Use up to 63 lower-case letters, digits and dashes.",
            "subdomain",
        )
    if _is_taken(session, subdomain):
        raise ConflictError(f"The subdomain {subdomain} is taken by another bot. Choose another one.")


def find_free_subdomain(session: Session, wanted: str) -> str:
    """Return a valid subdomain, or the same one with the lowest number that makes it free."""
    numbered = (wanted if number == 1 else f"{wanted[: _MAX_LENGTH - 7]}-{number}" for number in count(1))
    return next(subdomain for subdomain in numbered if not _is_taken(session, subdomain))


def _is_taken(session: Session, subdomain: str) -> bool:
    return session.scalar(sa.select(Bot.id).where(Bot.subdomain == subdomain)) is not None
