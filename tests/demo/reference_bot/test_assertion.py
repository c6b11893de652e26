"""Signed assertions of identity, with keys that a server on this machine publishes."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from demo.reference_bot import key_set
from demo.reference_bot.assertion import HEADER, AssertionVerifier, InvalidAssertion
from demo.reference_bot.configuration import Configuration, read_configuration
from demo.reference_bot.key_set import KeySet
from demo.reference_bot.members import Person
from demo.reference_bot.server import running_server
from tests.demo.reference_bot.local_bots import ALICE, BOB, SECRET, BotClient, identity, make_bot

BOT = "bot-1"


def encode(data: bytes | dict[str, Any]) -> str:
    """Return base64url without padding, of JSON unless the data are bytes."""
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def sign(private: Ed25519PrivateKey, claims: dict[str, Any], **header: Any) -> str:
    """Return a token."""
    signed = f"{encode({'alg': 'EdDSA', 'typ': 'JWT', 'kid': 'k1', **header})}.{encode(claims)}"
    return f"{signed}.{encode(private.sign(signed.encode()))}"


def claims_of(user: dict[str, str], **more: Any) -> dict[str, Any]:
    """Return the claims of the gateway about a user."""
    about = {"sub": user["id"], "email": user["email"], "name": user["name"], "role": "member", "org": "t-acme"}
    return {**about, "aud": BOT, "iss": "https://portal.example", "exp": time.time() + 60, **more}


@dataclass
class Publisher:
    """Publishes keys by their id."""

    url: str
    keys: dict[str, Ed25519PrivateKey] = field(default_factory=dict)
    body: bytes | None = None
    status: int = 200
    requests: int = 0

    def render(self) -> bytes:
        """Return the key set."""
        common = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA"}
        keys = [
            {**common, "kid": key_id, "x": encode(key.public_key().public_bytes_raw())}
            for key_id, key in self.keys.items()
        ]
        return (
            json.dumps({"keys": [{"kty": "RSA", "kid": "old"}, *keys]}).encode() if self.body is None else self.body
        )


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    """Return a server of one key with the id `k1`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests += 1
            body = state.render()
            self.send_response(state.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        state = Publisher(f"http://127.0.0.1:{server.server_port}/.well-known/jwks.json")
        state.keys["k1"] = Ed25519PrivateKey.generate()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def verifier(publisher: Publisher) -> AssertionVerifier:
    """Return a verifier with the keys of the publisher."""
    return AssertionVerifier(KeySet(publisher.url), BOT)


def test_an_assertion_proves_a_person(publisher: Publisher, verifier: AssertionVerifier) -> None:
    token = sign(publisher.keys["k1"], claims_of(ALICE))
    assert verifier.verify(token) == Person(ALICE["id"], ALICE["email"], ALICE["name"])
    verifier.verify(token)
    assert publisher.requests == 1


@pytest.mark.parametrize(
    "change",
    [
        {"aud": "bot-2"},
        {"aud": None},
        {"exp": 0},
        {"exp": "soon"},
        {"exp": float("nan")},
        {"exp": None},
        {"sub": 5},
        {"name": None},
    ],
)
def test_wrong_claims_prove_nothing(
    publisher: Publisher, verifier: AssertionVerifier, change: dict[str, Any]
) -> None:
    with pytest.raises(InvalidAssertion):
        verifier.verify(sign(publisher.keys["k1"], claims_of(ALICE, **change)))


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"kid": "k2"}, {"crit": ["x"]}])
def test_wrong_headers_prove_nothing(
    publisher: Publisher, verifier: AssertionVerifier, header: dict[str, Any]
) -> None:
    with pytest.raises(InvalidAssertion):
        verifier.verify(sign(publisher.keys["k1"], claims_of(ALICE), **header))


def test_a_forged_or_changed_token_proves_nothing(publisher: Publisher, verifier: AssertionVerifier) -> None:
    header, payload, signature = sign(publisher.keys["k1"], claims_of(ALICE)).split(".")
    for token in (
        sign(Ed25519PrivateKey.generate(), claims_of(ALICE)),
        f"{header}.{encode(claims_of(BOB))}.{signature}",
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}.{payload}.{signature}.{signature}",
        f"{header}.{payload}.{signature}!",
        f"{encode(b'[1]')}.{payload}.{signature}",
        f"{encode(b'[' * 5000)}.{payload}.{signature}",
        "",
        "..",
        "\xff.\xff.\xff",
        "x" * 20_000,
    ):
        with pytest.raises(InvalidAssertion):
            verifier.verify(token)


def test_a_new_key_is_found_and_forged_ids_cause_no_flood(
    publisher: Publisher, verifier: AssertionVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier.verify(sign(publisher.keys["k1"], claims_of(ALICE)))
    publisher.keys = {"k2": Ed25519PrivateKey.generate()}
    for _ in range(5):
        with pytest.raises(InvalidAssertion):
            verifier.verify(sign(publisher.keys["k2"], claims_of(ALICE), kid="k2"))
    assert publisher.requests == 1
    monkeypatch.setattr(key_set, "RETRY_SECONDS", 0)
    verifier.verify(sign(publisher.keys["k2"], claims_of(ALICE), kid="k2"))
    assert verifier.keys.find("k1") is None


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (302, b""), (200, b"<html>"), (200, b"[]"), (200, b'{"keys": [1]}'), (200, b"x" * 100_000)],
)
def test_known_keys_stay_valid_while_the_platform_answers_nonsense(
    publisher: Publisher, verifier: AssertionVerifier, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes
) -> None:
    token = sign(publisher.keys["k1"], claims_of(ALICE))
    verifier.verify(token)
    monkeypatch.setattr(key_set, "REFRESH_SECONDS", 0)
    publisher.status, publisher.body = status, body
    assert verifier.verify(token).user_id == ALICE["id"]
    assert publisher.requests == 2


def test_headers_need_an_assertion_about_the_same_person(publisher: Publisher, tmp_path: Path) -> None:
    configuration = Configuration(
        port=0, hosted=True, secrets=(SECRET,), assertion_keys_url=publisher.url, bot_id=BOT
    )
    bot = make_bot(tmp_path, configuration)
    alice = sign(publisher.keys["k1"], claims_of(ALICE, name="Alice by assertion"))
    with running_server(bot) as port:
        bot.migrate()
        client = BotClient(port)
        client.add(client.provision(), BOB, "member")
        reply = client.send("GET", "/me", headers={**identity(ALICE), HEADER: alice})
        assert (reply.status, reply.json["name"]) == (200, "Alice by assertion")
        for headers in (identity(ALICE), {HEADER: alice}, {**identity(BOB), HEADER: alice}):
            assert client.send("GET", "/me", headers=headers).status == 403


def test_keys_without_the_id_of_the_bot_are_refused() -> None:
    with pytest.raises(ValueError, match="FLOTILLA_BOT_ID"):
        read_configuration({"ASSERTION_JWKS_URL": "https://portal.example/.well-known/jwks.json"})
    read = read_configuration({"ASSERTION_JWKS_URL": "https://portal.example", "FLOTILLA_BOT_ID": BOT})
    assert (read.assertion_keys_url, read.bot_id) == ("https://portal.example", BOT)
