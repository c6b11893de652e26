"""Provision secrets: generate, and rotate with two valid secrets. Used by creation, `flotilla bots` and syncs.

`Bot.provision_secret` is `{"current": …, "next": …}`. A rotation writes `next`. The container gets it with its next
recreation, which an update does, and keeps the current one as the previous secret. The first call that the bot
accepts with `next` makes it the current secret.
"""

from __future__ import annotations

import re
import secrets

from sqlalchemy.orm import Session

from portal.models import Bot, EventTag
from portal.services import events
from portal.services.errors import ConflictError, InvalidError
from portal.services.events import Actor

_BYTES = 32
_VALID = re.compile(r"[\x21-\x7e]{16,500}")


def generate() -> str:
    """Return a new secret of 256 random bits."""
    return secrets.token_urlsafe(_BYTES)


def require_valid(secret: str) -> str:
    """Return a secret that an operator has chosen.

    Raises:
        InvalidError: the secret cannot be sent or is too short. The message does not contain it.
    """
    if not _VALID.fullmatch(secret):
        raise InvalidError("A secret has 16 to 500 ASCII characters and no spaces.", "secret")
    return secret


def begin_rotation(session: Session, bot: Bot, secret: str | None = None, *, actor: Actor) -> None:
    """Store the next secret of a bot. Both secrets are valid until the bot has accepted the next one.

    Args:
        session: a writing transaction.
        bot: the bot.
        secret: the next secret, if an operator puts it into the container; None to generate one for a container that
            Flotilla creates.
        actor: the operator; None for the command line.

    Raises:
        InvalidError: the secret is not valid.
        ConflictError: the bot has no secret, a rotation has begun already, or Flotilla cannot put a secret into the
            container.
    """
    session.refresh(bot, ["provision_secret"], with_for_update=True)
    stored = bot.provision_secret
    if not stored:
        raise ConflictError(f"{bot.name} has no secret yet. Run `flotilla bots provision` first.")
    if stored.get("next"):
        raise ConflictError(f"A rotation has begun already. It ends when {bot.name} has accepted its next secret.")
    if secret is None and bot.secret_variable is None:
        raise ConflictError(
            f"Flotilla does not set the secret of {bot.name}, which was adopted. Name its next secret with"
            " --secret-file, then set it in the container."
        )
    chosen = generate() if secret is None else require_valid(secret)
    bot.provision_secret = {"current": stored["current"], "next": chosen}
    events.record(session, EventTag.BOT_SECRET_ROTATION_BEGUN, actor=actor, org_id=bot.org_id, bot_id=bot.id)


def record_accepted(session: Session, bot_id: str, secret: str) -> None:
    """Make the next secret of a bot the current one, if the bot has accepted it."""
    bot = session.get_one(Bot, bot_id, with_for_update=True, populate_existing=True)
    if (bot.provision_secret or {}).get("next") != secret:
        return
    bot.provision_secret = {"current": secret, "next": None}
    events.record(session, EventTag.BOT_SECRET_ROTATED, org_id=bot.org_id, bot_id=bot.id)
