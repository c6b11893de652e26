"""What operators enter about an alert channel, and which values are valid. Used by `channels`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from portal.models import AlertFormat
from portal.rules import alert_events
from portal.services.errors import InvalidError

MAX_URL_LENGTH = 2000


@dataclass(frozen=True)
class ChannelSpec:
    """What an operator enters about a channel.

    Attributes:
        name: its name on pages and in the command line.
        format: what the receiver understands.
        tags: tags of the events that are sent.
        url: the URL that gets the messages; None keeps the stored one.
        secret: the access token of ntfy; None keeps the stored one. The signing secret of JSON is generated.
    """

    name: str
    format: AlertFormat
    tags: Sequence[str]
    url: str | None = None
    secret: str | None = None


def check(spec: ChannelSpec) -> dict[str, Any]:
    """Return the values to store.

    Raises:
        InvalidError: a value is invalid; the error names its field.
    """
    name = spec.name.strip()
    if not 0 < len(name) <= 100 or not name.isprintable():
        raise InvalidError("Enter a name of at most 100 characters.", "name")
    if not spec.tags:
        raise InvalidError("Choose at least one event.", "tags")
    if unknown := alert_events.list_unknown(spec.tags):
        raise InvalidError(f"There are no alerts about {', '.join(unknown)}.", "tags")
    values: dict[str, Any] = {"name": name, "format": spec.format, "tags": sorted(set(spec.tags))}
    if spec.url is not None:
        values |= {"url": spec.url, "host": _check_url(spec.url, spec.format)}
    if spec.secret is not None and spec.format is AlertFormat.NTFY:
        if not spec.secret.isascii() or not spec.secret.isprintable() or len(spec.secret) > 500 or " " in spec.secret:
            raise InvalidError("An access token has at most 500 ASCII characters and no spaces.", "secret")
        values["secret"] = spec.secret or None
    return values


def _check_url(url: str, kind: AlertFormat) -> str:
    """Return the host and port of a URL. Messages of errors never repeat the URL, which may contain a secret."""
    problem = "Enter a URL that begins with https:// or http://, without a user name."
    if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidError(problem, "url")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidError(problem, "url") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or port == 0:
        raise InvalidError(problem, "url")
    if kind is AlertFormat.NTFY and not parts.path.strip("/"):
        raise InvalidError("Enter the URL of a topic, such as https://ntfy.example/flotilla.", "url")
    return parts.netloc
