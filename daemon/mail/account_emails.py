"""Mails about an account: sign-up, a forgotten password, a change of address.

Sign-up and reset are asked for by anybody with any address. Only here, where nobody watches, is the account looked
up, and every address gets a mail that fits.
"""

from __future__ import annotations

import sqlalchemy as sa

from daemon.mail.emails import Composer, Desk, Letter, NoReason
from portal.models import OneTimeToken, User
from portal.tokens import derived_token, fingerprint


def _signup(desk: Desk) -> Letter:
    token = _token(desk)
    product = desk.settings.product_name
    if _account(desk, token) is None:
        facts = {"link": desk.link(f"/signup/{_secret(desk, token)}"), "until": token.expires_at}
        return Letter("signup", f"Finish your sign-up to {product}", facts=facts)
    facts = {"link": desk.link("/login"), "reset_link": desk.link("/forgot")}
    return Letter("signup_known", f"You already have an account at {product}", facts=facts)


def _reset(desk: Desk) -> Letter:
    token = _token(desk)
    account = _account(desk, token)
    product = desk.settings.product_name
    if account is None:
        signup = desk.link("/signup") if desk.settings.public_signup else None
        return Letter("reset_unknown", f"No account at {product} with this address", facts={"link": signup})
    names = {"name": account.name}
    if account.disabled_at is not None:
        return Letter("reset_disabled", f"Your account at {product} is switched off", names)
    # From here on the link is this account's, whatever its address is when the link is followed.
    token.user_id = account.id
    facts = {"link": desk.link(f"/reset/{_secret(desk, token)}"), "until": token.expires_at}
    return Letter("reset", f"Set a new password for {product}", names, facts)


def _change_email(desk: Desk) -> Letter:
    token = _token(desk)
    account = desk.session.get(User, token.user_id) if token.user_id else None
    if account is None:
        raise NoReason("The account was deleted before the mail could be sent.")
    facts = {
        "link": desk.link(f"/account/email/{_secret(desk, token)}"),
        "until": token.expires_at,
        "old": account.email,
        "new": token.email,
    }
    return Letter(
        "change_email", f"Confirm your new address for {desk.settings.product_name}", {"name": account.name}, facts
    )


def _email_changed(desk: Desk) -> Letter:
    account = desk.row(User, "user_id")
    subject = f"Your address at {desk.settings.product_name} was changed"
    return Letter("email_changed", subject, {"name": account.name}, {"old": desk.mail.to})


def _password_changed(desk: Desk) -> Letter:
    account = desk.row(User, "user_id")
    subject = f"Your password for {desk.settings.product_name} was changed"
    return Letter("password_changed", subject, {"name": account.name}, {"link": desk.link("/forgot")})


COMPOSERS: dict[str, Composer] = {
    "signup": _signup,
    "reset": _reset,
    "change_email": _change_email,
    "email_changed": _email_changed,
    "password_changed": _password_changed,
}
"""Context: `token_id` for the first three, `user_id` for the others."""


def _token(desk: Desk) -> OneTimeToken:
    token = desk.row(OneTimeToken, "token_id")
    if token.used_at is not None:
        raise NoReason("The link of this mail was used already.")
    if token.expires_at <= desk.now:
        raise NoReason("The link of this mail expired before it could be sent.")
    return token


def _account(desk: Desk, token: OneTimeToken) -> User | None:
    return desk.session.scalar(sa.select(User).where(User.email_normalized == token.email_normalized))


def _secret(desk: Desk, token: OneTimeToken) -> str:
    secret = derived_token(desk.settings.secret_key, token.purpose, token.id, token.generation)
    token.token_hash = fingerprint(secret)
    return secret
