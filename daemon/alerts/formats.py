"""The requests by which receivers get an alert: signed JSON, and the messages of chats. Used by the sender.

Sentences contain names that customers chose. Each format makes them harmless: no markup, no mention of other people.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from daemon.alerts.messages import Alert
from portal.models import AlertChannel, AlertFormat

_DISCORD_MAX_CHARACTERS = 2000
_NTFY_MAX_BYTES = 4096
_NTFY_HIGH = 4
_NTFY_DEFAULT = 3
_NO_BREAK = "\u2060"
"""A word joiner: invisible, and it keeps chats from reading what follows as a mention."""


@dataclass(frozen=True)
class AlertRequest:
    """A POST request.

    Attributes:
        url: where to.
        body: the body, which is JSON.
        headers: headers besides the content type.
    """

    url: str = field(repr=False)
    body: bytes
    headers: dict[str, str] = field(default_factory=dict, repr=False)


def build_request(channel: AlertChannel, alert: Alert, now: datetime) -> AlertRequest:
    """Return the request that sends an alert to a channel.

    Args:
        channel: the channel.
        alert: the message.
        now: the moment of this attempt in UTC, which receivers of signed JSON compare with their clock.
    """
    if channel.format is AlertFormat.JSON:
        return _build_signed(channel, alert, now)
    if channel.format is AlertFormat.NTFY:
        return _build_ntfy(channel, alert)
    return AlertRequest(channel.url, _encode(_CHATS[channel.format](alert)))


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of the specification Standard Webhooks, version 1.

    Args:
        secret: `whsec_` and the key in Base64.
        message_id: the id of the message.
        timestamp: the moment of the attempt in seconds since 1970.
        body: the body of the request.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _build_signed(channel: AlertChannel, alert: Alert, now: datetime) -> AlertRequest:
    body = _encode(
        {
            "type": alert.tag,
            "timestamp": alert.at.isoformat(),
            "data": {
                "id": alert.id,
                "sentence": alert.sentence,
                "link": alert.link,
                "is_trouble": alert.is_trouble,
                "org": alert.org,
                "bot": alert.bot,
                **alert.facts,
            },
        }
    )
    timestamp = int(now.timestamp())
    headers = {
        "webhook-id": alert.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(channel.secret or "", alert.id, timestamp, body),
    }
    return AlertRequest(channel.url, body, headers)


def _build_ntfy(channel: AlertChannel, alert: Alert) -> AlertRequest:
    parts = urlsplit(channel.url)
    folder, _, topic = parts.path.rstrip("/").rpartition("/")
    message = {
        "topic": topic,
        "title": alert.product,
        "message": _shorten_bytes(alert.text, _NTFY_MAX_BYTES),
        "click": alert.link,
        "priority": _NTFY_HIGH if alert.is_trouble else _NTFY_DEFAULT,
        "tags": ["warning"] if alert.is_trouble else [],
    }
    headers = {"Authorization": f"Bearer {channel.secret}"} if channel.secret else {}
    return AlertRequest(parts._replace(path=f"{folder}/").geturl(), _encode(message), headers)


def _build_slack(alert: Alert) -> dict[str, Any]:
    # Slack reads these three characters as markup; `&lt;!channel&gt;` is then plain text.
    text = alert.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": f"{_mark(alert)}{text} <{alert.link}|Open>"}


def _build_mattermost(alert: Alert) -> dict[str, Any]:
    return {"text": f"{_mark(alert)}{_escape_markdown(alert.text)} [Open]({alert.link})", "username": alert.product}


def _build_discord(alert: Alert) -> dict[str, Any]:
    end = f" [Open](<{alert.link}>)"
    text = _shorten(_mark(alert) + _escape_markdown(alert.text), _DISCORD_MAX_CHARACTERS - len(end))
    return {"content": text + end, "allowed_mentions": {"parse": []}}


def _build_matrix(alert: Alert) -> dict[str, Any]:
    text = _mark(alert) + alert.text
    link = html.escape(alert.link, quote=True)
    return {
        "text": f"{text} {alert.link}",
        "html": f'{html.escape(text)} <a href="{link}">Open</a>',
        "username": alert.product,
    }


_CHATS: dict[AlertFormat, Callable[[Alert], dict[str, Any]]] = {
    AlertFormat.SLACK: _build_slack,
    AlertFormat.MATTERMOST: _build_mattermost,
    AlertFormat.DISCORD: _build_discord,
    AlertFormat.MATRIX: _build_matrix,
}


def _mark(alert: Alert) -> str:
    return "⚠️ " if alert.is_trouble else ""


def _escape_markdown(text: str) -> str:
    """Escape Markdown, and keep `@all`, `#room` and URLs from having an effect."""
    escaped = re.sub(r"([\\`*_{}\[\]()<>#+\-!|~>])", r"\\\1", text)
    return escaped.replace("@", f"@{_NO_BREAK}").replace("://", f":{_NO_BREAK}//")


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip("\\") + "…"


def _shorten_bytes(text: str, limit: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[: limit - 3].decode(errors="ignore") + "…"


def _encode(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()
