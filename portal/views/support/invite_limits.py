"""How many invites may be mailed. Counted apart from the address of a route, because several routes mail them."""

from __future__ import annotations

from flask import g

from portal.rules import email_addresses
from portal.web.extensions import limiter


def count_mail_of_org(org_id: str, email: str) -> None:
    """Count a mail that somebody of an organization causes. Ask for the right to cause it before.

    Raises:
        RateLimitExceeded: it would be one too many; the error tells when it is not.
    """
    _remember(org_id, email)
    _spend_of_org()


def count_proof_mail(org_id: str, email: str) -> None:
    """Count a mail that the reader of a copied link causes; the organization's own share is not for them to use up.

    Raises:
        RateLimitExceeded: as `spend_for_org`.
    """
    _remember(org_id, email)
    _spend_of_invite()


def _remember(org_id: str, email: str) -> None:
    g.invite_mail = (org_id, email_addresses.normalize(email))


def _org() -> str:
    return str(g.invite_mail[0])


def _recipient() -> str:
    return str(g.invite_mail[1])


def _invite() -> str:
    # There is one pending invite per organization and address.
    return f"{_org()} {_recipient()}"


_per_invite = limiter.shared_limit("3 per hour", scope="mails of an invite", key_func=_invite)
_per_recipient = limiter.shared_limit("5 per day", scope="invites of a recipient", key_func=_recipient)
_per_org = limiter.shared_limit("20 per hour; 50 per day", scope="invites of an organization", key_func=_org)


@_per_invite
@_per_recipient
def _spend_of_invite() -> None:
    """The limiter counts before this does nothing."""


@_per_org
@_per_invite
@_per_recipient
def _spend_of_org() -> None:
    """The limiter counts before this does nothing."""
