"""Mails about an account: sign-up, a forgotten password, a change of address.

Sign-up and reset are asked for by anybody with any address. Only here, where nobody watches, is the account looked
up, and every address gets a mail that fits.
"""

from __future__ import annotations

import sqlalchemy as sa

from daemon.mail.emails import Composer, Email, EmailContext, Obsolete
from portal.models import OneTimeToken, User
from portal.tokens import derived_token, fingerprint


def _signup(context: EmailContext) -> Email:
    token = _token(context)
    product = context.settings.product_name
    if _account(context, token) is None:
        facts = {"link": context.link(f"/signup/{_secret(context, token)}"), "until": token.expires_at}
        return Email("signup", f"Finish your sign-up to {product}", facts=facts)
    facts = {"link": context.link("/login"), "reset_link": context.link("/forgot")}
    return Email("signup_known", f"You already have an account at {product}", facts=facts)


def _reset(context: EmailContext) -> Email:
    token = _token(context)
    account = _account(context, token)
    product = context.settings.product_name
    if account is None:
        signup = context.link("/signup") if context.settings.public_signup else None
        return Email("reset_unknown", f"No account at {product} with this address", facts={"link": signup})
    names = {"name": account.name}
    if account.disabled_at is not None:
        return Email("reset_disabled", f"Your account at {product} is switched off", names)
    # From here on the link is this account's, whatever its address is when the link is followed.
    token.user_id = account.id
    facts = {"link": context.link(f"/reset/{_secret(context, token)}"), "until": token.expires_at}
    return Email("reset", f"Set a new password for {product}", names, facts)


def _change_email(context: EmailContext) -> Email:
    token = _token(context)
    account = context.session.get(User, token.user_id) if token.user_id else None
    if account is None:
        raise Obsolete("The account was deleted before the mail could be sent.")
    facts = {
        "link": context.link(f"/account/email/{_secret(context, token)}"),
        "until": token.expires_at,
        "old": account.email,
        "new": token.email,
    }
    return Email(
        "change_email", f"Confirm your new address for {context.settings.product_name}", {"name": account.name}, facts
    )


def _email_changed(context: EmailContext) -> Email:
    account = context.row(User, "user_id")
    subject = f"Your address at {context.settings.product_name} was changed"
    return Email("email_changed", subject, {"name": account.name}, {"old": context.mail.to})


def _password_changed(context: EmailContext) -> Email:
    account = context.row(User, "user_id")
    subject = f"Your password for {context.settings.product_name} was changed"
    return Email("password_changed", subject, {"name": account.name}, {"link": context.link("/forgot")})


COMPOSERS: dict[str, Composer] = {
    "signup": _signup,
    "reset": _reset,
    "change_email": _change_email,
    "email_changed": _email_changed,
    "password_changed": _password_changed,
}
"""Context: `token_id` for the first three, `user_id` for the others."""


def _token(context: EmailContext) -> OneTimeToken:
    token = context.row(OneTimeToken, "token_id")
    if token.used_at is not None:
        raise Obsolete("The link of this mail was used already.")
    if token.expires_at <= context.now:
        raise Obsolete("The link of this mail expired before it could be sent.")
    return token


def _account(context: EmailContext, token: OneTimeToken) -> User | None:
    return context.session.scalar(sa.select(User).where(User.email_normalized == token.email_normalized))


def _secret(context: EmailContext, token: OneTimeToken) -> str:
    secret = derived_token(context.settings.secret_key, token.purpose, token.id, token.generation)
    token.token_hash = fingerprint(secret)
    return secret
