"""The variables that Flotilla sets in the container of a bot: id and secrets. Used by creations and updates."""

from __future__ import annotations

from portal.models import Bot
from portal.rules.container_settings import BOT_ID_VARIABLE
from portal.services.bots.bot_template import previous_secret_variable


def bot_environment(bot: Bot) -> dict[str, str | None]:
    """Return the variables with the id and the provision secrets of a bot; None for a variable that must not be set.

    There are no secrets if the container of the bot has no variable for them, or if Flotilla does not know them.
    """
    return {BOT_ID_VARIABLE: bot.id, **_secret_environment(bot)}


def _secret_environment(bot: Bot) -> dict[str, str | None]:
    """Return the variables with the secrets. During a rotation both are valid, and the next one is the main one."""
    secrets = bot.provision_secret
    if not bot.secret_variable or not secrets:
        return {}
    current, following = secrets["current"], secrets.get("next")
    return {
        bot.secret_variable: following or current,
        previous_secret_variable(bot.secret_variable): current if following else None,
    }
