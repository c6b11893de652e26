"""Rate limits for mails about invites. Used by views that send invites and by the invite page.

The limits do not belong to single routes, because several routes send these mails.
"""

from __future__ import annotations

from flask import g

from portal.rules import email_addresses
from portal.web.extensions import limiter


def count_mail_of_org(org_id: str, email: str) -> None:
    """Count a mail that a member of an organization sends. Check the member's permission first.

    Raises:
        RateLimitExceeded: a limit is reached; the error says when the next mail is allowed.
    """
    _set_keys(org_id, email)
    _count_for_org()


def count_proof_mail(org_id: str, email: str) -> None:
    """Count a mail that the reader of a copied link requests. It does not count toward the organization's limit.

    Raises:
        RateLimitExceeded: as `count_mail_of_org`.
    """
    _set_keys(org_id, email)
    _count_for_invite()


def _set_keys(org_id: str, email: str) -> None:
    g.invite_mail = (org_id, email_addresses.normalize(email))


def _org_key() -> str:
    return str(g.invite_mail[0])


def _recipient_key() -> str:
    return str(g.invite_mail[1])


def _invite_key() -> str:
    # An organization has at most one pending invite per email.
    return f"{_org_key()} {_recipient_key()}"


_per_invite = limiter.shared_limit("3 per hour", scope="mails of an invite", key_func=_invite_key)
_per_recipient = limiter.shared_limit("5 per day", scope="invites of a recipient", key_func=_recipient_key)
_per_org = limiter.shared_limit("20 per hour; 50 per day", scope="invites of an organization", key_func=_org_key)


@_per_invite
@_per_recipient
def _count_for_invite() -> None:
    """Do nothing: the decorators count each call."""


@_per_org
@_per_invite
@_per_recipient
def _count_for_org() -> None:
    """Do nothing: the decorators count each call."""
