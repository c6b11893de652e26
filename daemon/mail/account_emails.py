"""Emails about an account: sign-up, password reset, email change. Used by the composers.

Any visitor can request a sign-up or reset email for any address, and the portal does not look up the account. Only
these composers do, and each address gets an email. So the portal's answer does not show whether an account exists.
"""

from __future__ import annotations

import sqlalchemy as sa

from daemon.mail.emails import Composer, Email, EmailContext, Obsolete
from portal.models import OneTimeToken, User
from portal.tokens import derive_token, fingerprint


def _compose_signup(context: EmailContext) -> Email:
    token = _load_valid_token(context)
    product = context.settings.product_name
    if _find_account(context, token) is None:
        facts = {"link": context.link(f"/signup/{_create_secret(context, token)}"), "until": token.expires_at}
        return Email("signup", f"Finish your sign-up to {product}", facts=facts)
    facts = {"link": context.link("/login"), "reset_link": context.link("/forgot")}
    return Email("signup_known", f"You already have an account at {product}", facts=facts)


def _compose_reset(context: EmailContext) -> Email:
    token = _load_valid_token(context)
    account = _find_account(context, token)
    product = context.settings.product_name
    if account is None:
        signup = context.link("/signup") if context.settings.public_signup else None
        return Email("reset_unknown", f"No account at {product} with this email", facts={"link": signup})
    names = {"name": account.name}
    if account.disabled_at is not None:
        return Email("reset_disabled", f"Your account at {product} is disabled", names)
    # The link now belongs to this account, so that an email change or a deletion of the account invalidates it.
    token.user_id = account.id
    facts = {"link": context.link(f"/reset/{_create_secret(context, token)}"), "until": token.expires_at}
    return Email("reset", f"Reset your password for {product}", names, facts)


def _compose_change_email(context: EmailContext) -> Email:
    token = _load_valid_token(context)
    account = context.session.get(User, token.user_id) if token.user_id else None
    if account is None:
        raise Obsolete("The account was deleted before the email could be sent.")
    facts = {
        "link": context.link(f"/account/email/{_create_secret(context, token)}"),
        "until": token.expires_at,
        "old": account.email,
        "new": token.email,
    }
    subject = f"Confirm your new email for {context.settings.product_name}"
    return Email("change_email", subject, {"name": account.name}, facts)


def _compose_email_changed(context: EmailContext) -> Email:
    account = context.row(User, "user_id")
    subject = f"Your email at {context.settings.product_name} was changed"
    return Email("email_changed", subject, {"name": account.name}, {"old": context.mail.to})


def _compose_password_changed(context: EmailContext) -> Email:
    account = context.row(User, "user_id")
    subject = f"Your password for {context.settings.product_name} was changed"
    return Email("password_changed", subject, {"name": account.name}, {"link": context.link("/forgot")})


COMPOSERS: dict[str, Composer] = {
    "signup": _compose_signup,
    "reset": _compose_reset,
    "change_email": _compose_change_email,
    "email_changed": _compose_email_changed,
    "password_changed": _compose_password_changed,
}
"""Composers by template. The context holds `token_id` for the first three and `user_id` for the others."""


def _load_valid_token(context: EmailContext) -> OneTimeToken:
    token = context.row(OneTimeToken, "token_id")
    if token.used_at is not None:
        raise Obsolete("The link in this email was already used.")
    if token.expires_at <= context.now:
        raise Obsolete("The link in this email expired before it could be sent.")
    return token


def _find_account(context: EmailContext, token: OneTimeToken) -> User | None:
    return context.session.scalar(sa.select(User).where(User.email_normalized == token.email_normalized))


def _create_secret(context: EmailContext, token: OneTimeToken) -> str:
    """Derive the secret of the token's link and store its fingerprint."""
    secret = derive_token(context.settings.secret_key, token.purpose, token.id, token.generation)
    token.token_hash = fingerprint(secret)
    return secret
