"""Updates of several bots of an organization at once. Used by the page "Update all"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from portal.models import Audience, Org, Trigger, User
from portal.rules.allowlist import Allowlist
from portal.services.bots import bot_list
from portal.services.bots.bot_list import BotRow
from portal.services.errors import ConflictError, InvalidError
from portal.services.rollouts import eligibility, rollouts


def list_updatable(session: Session, org: Org) -> list[BotRow]:
    """List the bots of an organization that can be updated now and whose release is not skipped, by name."""
    offered = [row for row in bot_list.list_for_org(session, org) if row.is_offered]
    candidates = {found.bot.id: found for found in eligibility.load_named(session, [row.bot.id for row in offered])}
    return [
        row
        for row in offered
        if row.available is not None
        and eligibility.exclusion_reason(candidates[row.bot.id], row.available, Audience.NAMED) is None
    ]


def update_bots(
    session: Session,
    allowlist: Allowlist,
    digests: Mapping[str, str],
    now: datetime,
    *,
    org: Org,
    actor: User,
    trigger: Trigger,
) -> Sequence[str]:
    """Update several bots, each to the release that the page showed. If one is refused, none is updated.

    Args:
        session: a writing transaction, which the caller rolls back after an error.
        allowlist: the images that may run.
        digests: digest of the release on the page, by the id of the bot.
        now: the moment.
        org: the organization.
        actor: the user who started the updates.
        trigger: see `rollouts.update_now`.

    Returns:
        The names of the bots.

    Raises:
        InvalidError: no bot is chosen, or a bot cannot be updated now.
        ConflictError: a bot is no longer offered an update, a newer release exists, or see `rollouts.update_now`.
    """
    if not digests:
        raise InvalidError("Choose at least one bot.")
    chosen = [row.bot for row in list_updatable(session, org) if row.bot.id in digests]
    if len(chosen) != len(digests):
        raise ConflictError("The list has changed in the meantime. Check it, then update.")
    for bot in sorted(chosen, key=lambda bot: bot.id):  # always in this order, because each call locks the bot
        rollouts.update_now(session, allowlist, now, bot=bot, digest=digests[bot.id], actor=actor, trigger=trigger)
    return [bot.name for bot in chosen]
