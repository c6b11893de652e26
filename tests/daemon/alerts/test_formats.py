"""Requests to receivers: signatures, limits, and names that must have no effect."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest

from daemon.alerts.formats import build_request
from daemon.alerts.messages import Alert
from portal.models import AlertChannel, AlertFormat

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
HOSTILE = "@everyone <!channel> [win](https://evil.example) **bold** <b>x</b> &amp;"


def alert(sentence: str = "Node north is offline: timeout", *, trouble: bool = True) -> Alert:
    """Return a message about a node."""
    link = "https://portal.example/admin/nodes"
    facts = {"event_id": 7, "data": {"name": "north"}}
    return Alert("message1", "node.offline", NOW, sentence, "Flotilla", link, trouble, org="Acme", facts=facts)


def channel(kind: AlertFormat, url: str = "https://chat.example/hook/1", secret: str | None = None) -> AlertChannel:
    """Return a channel that is not stored."""
    return AlertChannel(name="Operations", format=kind, url=url, secret=secret, host="chat.example", tags=[])


def read_body(kind: AlertFormat, sentence: str, **options: str) -> dict[str, object]:
    """Return the body of the request for a sentence."""
    content: dict[str, object] = json.loads(build_request(channel(kind, **options), alert(sentence), NOW).body)
    return content


def test_json_is_signed_as_standard_webhooks_demand() -> None:
    key = bytes(range(32))
    request = build_request(channel(AlertFormat.JSON, secret="whsec_" + base64.b64encode(key).decode()), alert(), NOW)

    signed = b"message1.%d." % NOW.timestamp() + request.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert request.headers == {
        "webhook-id": "message1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": f"v1,{expected}",
    }
    content = json.loads(request.body)
    assert content["type"] == "node.offline"
    assert content["data"] == {
        "id": "message1",
        "sentence": "Node north is offline: timeout",
        "link": "https://portal.example/admin/nodes",
        "is_trouble": True,
        "org": "Acme",
        "bot": None,
        "event_id": 7,
        "data": {"name": "north"},
    }


def test_slack_gets_no_markup_from_names() -> None:
    text = str(read_body(AlertFormat.SLACK, HOSTILE)["text"])

    assert text.count("<") == 1
    assert text.endswith("(Acme) <https://portal.example/admin/nodes|Open>")
    assert "&lt;!channel&gt;" in text


@pytest.mark.parametrize(("kind", "key"), [(AlertFormat.MATTERMOST, "text"), (AlertFormat.DISCORD, "content")])
def test_markdown_gets_no_markup_and_no_mention_from_names(kind: AlertFormat, key: str) -> None:
    text = str(read_body(kind, HOSTILE)[key])

    assert "@everyone" not in text
    assert "\\[win\\]\\(https:" in text
    assert "https://evil.example" not in text
    assert "\\*\\*bold\\*\\*" in text


def test_discord_gets_at_most_2000_characters_with_the_whole_link() -> None:
    content = str(read_body(AlertFormat.DISCORD, "*" * 3000)["content"])

    assert len(content) <= 2000
    assert content.endswith("… [Open](<https://portal.example/admin/nodes>)")
    assert read_body(AlertFormat.DISCORD, "x")["allowed_mentions"] == {"parse": []}


def test_matrix_gets_escaped_html() -> None:
    body = read_body(AlertFormat.MATRIX, HOSTILE)

    assert "<b>" not in str(body["html"])
    assert str(body["html"]).endswith('<a href="https://portal.example/admin/nodes">Open</a>')
    assert HOSTILE in str(body["text"])


def test_ntfy_gets_json_for_its_topic_and_the_access_token() -> None:
    target = channel(AlertFormat.NTFY, "https://ntfy.example/under/flotilla", "tk_1")
    request = build_request(target, alert("ä" * 5000), NOW)
    body = json.loads(request.body)

    assert request.url == "https://ntfy.example/under/"
    assert request.headers == {"Authorization": "Bearer tk_1"}
    assert (body["topic"], body["priority"], body["tags"]) == ("flotilla", 4, ["warning"])
    assert len(body["message"].encode()) <= 4096


def test_request_shows_no_secret() -> None:
    request = build_request(channel(AlertFormat.NTFY, "https://ntfy.example/topic9", "tk_1"), alert(), NOW)

    assert "tk_1" not in repr(request)
    assert "ntfy.example" not in repr(request)
