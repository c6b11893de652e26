"""The configuration of the bot, read from environment variables. Used by the entry point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Configuration:
    """What the platform sets when it creates the container.

    Attributes:
        port: `PORT`, where the bot listens.
        hosted: `HOSTED_MODE=1`; only members get in, and the platform manages them.
        header_prefix: `IDENTITY_HEADER_PREFIX`, the first part of the names of the identity headers.
        secrets: `PROVISION_SECRET`, and `PROVISION_SECRET_PREVIOUS` while the secret is rotated. Without a secret,
            all calls of the provision protocol are refused.
        assertion_keys_url: `ASSERTION_JWKS_URL`, the platform's key set. With it, callers need a signed assertion.
        bot_id: `FLOTILLA_BOT_ID`, the platform's id of this bot, which assertions name as their audience.
    """

    port: int = 3100
    hosted: bool = False
    header_prefix: str = "x-platform-user"
    secrets: tuple[str, ...] = field(default=(), repr=False)
    assertion_keys_url: str = ""
    bot_id: str = ""


def read_configuration(environment: Mapping[str, str]) -> Configuration:
    """Read the configuration from environment variables.

    Raises:
        ValueError: `PORT` is not a number, or assertions are required and `FLOTILLA_BOT_ID` is missing.
    """
    keys_url, bot_id = (environment.get(name, "") for name in ("ASSERTION_JWKS_URL", "FLOTILLA_BOT_ID"))
    if keys_url and not bot_id:
        raise ValueError("ASSERTION_JWKS_URL needs FLOTILLA_BOT_ID, or assertions for other bots would be accepted")
    secret, previous = (environment.get(name, "") for name in ("PROVISION_SECRET", "PROVISION_SECRET_PREVIOUS"))
    return Configuration(
        port=int(environment.get("PORT") or Configuration.port),
        hosted=environment.get("HOSTED_MODE") == "1",
        header_prefix=environment.get("IDENTITY_HEADER_PREFIX") or Configuration.header_prefix,
        assertion_keys_url=keys_url,
        bot_id=bot_id,
        # An earlier secret alone is valid for nothing: its rotation has not begun.
        secrets=tuple(filter(None, (secret, previous))) if secret else (),
    )
