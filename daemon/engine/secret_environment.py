"""The variables of a container that contain the bot's provision secrets. Used by creations and updates."""

from __future__ import annotations

from portal.models import Bot
from portal.services.bots.bot_template import previous_secret_variable


def secret_environment(bot: Bot) -> dict[str, str | None]:
    """Return the variables with the provision secrets of a bot; None for a variable that must not be set.

    While a rotation is in progress, the container accepts both secrets: the next one is the main one.

    Returns:
        An empty dictionary for a bot whose container has no such variable or whose secret Flotilla does not know.
    """
    secrets = bot.provision_secret
    if not bot.secret_variable or not secrets:
        return {}
    current, following = secrets["current"], secrets.get("next")
    return {
        bot.secret_variable: following or current,
        previous_secret_variable(bot.secret_variable): current if following else None,
    }
