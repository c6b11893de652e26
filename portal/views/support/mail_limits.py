"""Rate limits for mails that one person causes and another person receives. Used by views that request such mails.

Without these limits the portal would be a relay for spam: anybody can sign up, and every account can invite people.
The limits do not belong to single routes, because several routes send these mails. They count:

- each recipient, over all purposes: invites, sign-up, password reset, change of address;
- each account, over all its organizations, with a lower limit for new accounts;
- each organization and each invite.
"""

from __future__ import annotations

from datetime import timedelta

from flask import g
from flask_limiter import RateLimitExceeded

from portal.models import User, utcnow
from portal.rules import email_addresses
from portal.tokens import fingerprint
from portal.web.extensions import limiter

NEW_ACCOUNT = timedelta(days=7)
"""How long an account counts as new."""
_TO_RECIPIENT, _OF_INVITE, _OF_INVITED = "mails to a recipient", "mails of an invite", "invites of a recipient"
_SCOPES_OF_RECIPIENTS = frozenset({_TO_RECIPIENT, _OF_INVITE, _OF_INVITED})


def count_invite(org_id: str, email: str, *, actor: User) -> None:
    """Count a mail about an invite that a member of an organization sends. Check the member's permission first.

    Raises:
        RateLimitExceeded: a limit is reached. The other functions raise it, too.
    """
    _set_keys(email, org_id=org_id, actor=actor)
    _count_account(actor)
    _count_invite()


def concerns_recipient(error: RateLimitExceeded) -> bool:
    """Return whether a limit of one recipient was reached, and not one of the organization or the account."""
    return error.limit is not None and error.limit.scope in _SCOPES_OF_RECIPIENTS


def count_proof(org_id: str, email: str) -> None:
    """Count a mail that the reader of a copied link requests. It counts neither for an account nor for the org."""
    _set_keys(email, org_id=org_id)
    _count_proof()


def count_email_change(email: str, *, actor: User) -> None:
    """Count a mail to the new address of an account."""
    _set_keys(email, actor=actor)
    _count_account(actor)
    _count_email_change()


def count_request(email: str) -> None:
    """Count a mail that a visitor requests: sign-up or password reset."""
    _set_keys(email)
    _count_request()


def _set_keys(email: str, *, org_id: str = "", actor: User | None = None) -> None:
    g.limited_mail = {"recipient": fingerprint(email_addresses.find_mailbox(email)), "org": org_id, "actor": actor}


def _org_key() -> str:
    return str(g.limited_mail["org"])


def _recipient_key() -> str:
    # Hashed, so that Redis holds no addresses.
    return str(g.limited_mail["recipient"])


def _invite_key() -> str:
    # An organization has at most one pending invite per email.
    return f"{_org_key()} {_recipient_key()}"


def _account_key() -> str:
    return str(g.limited_mail["actor"].id)


_per_recipient = limiter.shared_limit("6 per hour; 15 per day", scope=_TO_RECIPIENT, key_func=_recipient_key)
_per_account = limiter.shared_limit("50 per day", scope="mails of an account", key_func=_account_key)
_per_new_account = limiter.shared_limit("20 per day", scope="mails of a new account", key_func=_account_key)
_per_org = limiter.shared_limit("20 per hour; 50 per day", scope="invites of an organization", key_func=_org_key)
_per_invite = limiter.shared_limit("3 per hour", scope=_OF_INVITE, key_func=_invite_key)
_per_invited = limiter.shared_limit("5 per day", scope=_OF_INVITED, key_func=_recipient_key)
_per_email_change = limiter.shared_limit("5 per day", scope="email changes", key_func=_account_key)


def _count_account(actor: User) -> None:
    is_new = utcnow() - actor.created_at < NEW_ACCOUNT
    (_count_new_account if is_new else _count_older_account)()


@_per_new_account
def _count_new_account() -> None:
    """Do nothing: the decorator counts each call. So do those of the other functions."""


@_per_account
def _count_older_account() -> None:
    pass


@_per_org
@_per_invite
@_per_invited
@_per_recipient
def _count_invite() -> None:
    pass


@_per_invite
@_per_invited
@_per_recipient
def _count_proof() -> None:
    pass


@_per_email_change
@_per_recipient
def _count_email_change() -> None:
    pass


@_per_recipient
def _count_request() -> None:
    pass
