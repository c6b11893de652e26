"""What the operator of an image would set in the bot template, and time limits. Used by the whole kit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_VOLUMES = ("/data", "/paperclip")


@dataclass(frozen=True)
class BotOptions:
    """Settings of the image under test. The defaults are those of a new bot template.

    Attributes:
        port: port in the container.
        health_path: path of the health check.
        page: path of a page for members.
        secret_variable: environment variable with the provision secret.
        header_prefix: the identity headers are `<prefix>-id`, `<prefix>-email` and `<prefix>-name`.
        volumes: paths in the container, each with its own volume.
        environment: further environment variables, such as those that switch hosted mode on.
        capabilities: Linux capabilities that the container keeps.
        start_seconds: time limit for becoming healthy.
        answer_seconds: time limit of each exchange.
        watch_seconds: how long health must stay "ok" after the first time.
    """

    port: int = 3100
    health_path: str = "/health"
    page: str = "/"
    secret_variable: str = "PROVISION_SECRET"  # noqa: S105 - the name of a variable
    header_prefix: str = "x-platform-user"
    volumes: tuple[str, ...] = DEFAULT_VOLUMES
    environment: Mapping[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    start_seconds: float = 120
    answer_seconds: float = 30
    watch_seconds: float = 2
