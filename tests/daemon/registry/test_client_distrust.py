"""The client against servers that lie, dawdle or lead astray."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from daemon.registry import client as client_module
from daemon.registry import transport
from daemon.registry.client import RegistryClient
from daemon.registry.credentials import Credential, Credentials
from daemon.registry.errors import BadAnswer, RateLimited, RegistryError, Unreachable, WrongCredentials
from portal.rules.references import Reference, parse_reference
from tests.daemon.registry.guarded import self_signed
from tests.daemon.registry.pushing import digest_of
from tests.daemon.registry.scripted import Reply, ScriptedServer, Seen, scripted_server

MANIFEST = json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode()
DIGEST = digest_of(MANIFEST)
OTHER = "sha256:" + "0" * 64
ANNOUNCED = {"Docker-Content-Digest": DIGEST}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

Respond = Callable[[Seen], Reply]
Serve = Callable[[Respond], ScriptedServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start scripted servers for the time of a test."""
    with ExitStack() as servers:
        yield lambda respond: servers.enter_context(scripted_server(respond))


def _reference(server: ScriptedServer) -> Reference:
    return parse_reference(f"{server.address}/acme/bot:managed")


def _knowing(server: ScriptedServer, **options: Any) -> RegistryClient:
    return RegistryClient(Credentials({server.address: Credential("fleet", "secret")}), **options)


def test_the_usual_case_is_one_small_request_naming_all_media_types(serve: Serve) -> None:
    server = serve(lambda _: Reply(200, ANNOUNCED))

    assert RegistryClient().current_digest(_reference(server)) == DIGEST

    [seen] = server.seen
    assert (seen.method, seen.path) == ("HEAD", "/v2/acme/bot/manifests/managed")
    assert seen.headers["Accept"].split(", ") == [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]


@pytest.mark.parametrize(
    "head",
    [
        Reply(200),
        Reply(200, {"Docker-Content-Digest": "sha256:short"}),
        Reply(405),
        Reply(501),
    ],
)
def test_without_a_digest_from_head_the_bytes_are_hashed(serve: Serve, head: Reply) -> None:
    server = serve(lambda seen: head if seen.method == "HEAD" else Reply(200, body=MANIFEST))

    assert RegistryClient().resolve(_reference(server), ["linux/amd64"]).digest == DIGEST
    assert server.seen[1].headers["Accept-Encoding"] == "identity"


def test_a_body_compressed_against_our_wish_has_the_digest_of_its_content(serve: Serve) -> None:
    packed = Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(MANIFEST))
    server = serve(lambda seen: Reply(405) if seen.method == "HEAD" else packed)

    assert RegistryClient().current_digest(_reference(server)) == DIGEST


def test_a_digest_that_does_not_fit_the_bytes_is_noticed(serve: Serve) -> None:
    server = serve(lambda _: Reply(200, {"Docker-Content-Digest": OTHER}, MANIFEST))

    with pytest.raises(BadAnswer, match="other content"):
        RegistryClient().resolve(_reference(server), ["linux/amd64"])


def test_a_digest_that_is_announced_and_missing_is_no_vanished_tag(serve: Serve) -> None:
    server = serve(lambda seen: Reply(200, ANNOUNCED) if seen.method == "HEAD" else Reply(404))

    with pytest.raises(BadAnswer, match="lacks"):
        RegistryClient().resolve(_reference(server), ["linux/amd64"])


class TestPatience:
    @pytest.mark.parametrize(
        ("asked", "seconds"),
        [
            ("120", 120),
            (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
            (format_datetime(NOW - timedelta(hours=1), usegmt=True), 1),
            ("0", 1),
            ("99999999999", 6 * 3600),
            ("soon", 60),
            (None, 60),
        ],
    )
    def test_the_registry_says_how_long_to_wait(self, serve: Serve, asked: str | None, seconds: float) -> None:
        server = serve(lambda _: Reply(429, {"Retry-After": asked} if asked else {}))

        with pytest.raises(RateLimited) as limit:
            RegistryClient(clock=lambda: NOW).current_digest(_reference(server))

        assert limit.value.retry_after == seconds

    def test_nothing_is_asked_of_that_host_before(self, serve: Serve) -> None:
        now = NOW
        busy = serve(lambda _: Reply(429, {"Retry-After": "120"}))
        calm = serve(lambda _: Reply(200, ANNOUNCED))
        client = RegistryClient(clock=lambda: now)
        with pytest.raises(RateLimited):
            client.current_digest(_reference(busy))

        now += timedelta(seconds=100)
        with pytest.raises(RateLimited) as limit:
            client.current_digest(parse_reference(f"{busy.address}/acme/other"))
        assert limit.value.retry_after == 20
        assert len(busy.seen) == 1
        assert client.current_digest(_reference(calm)) == DIGEST

        now += timedelta(seconds=21)
        with pytest.raises(RateLimited):
            client.current_digest(_reference(busy))
        assert len(busy.seen) == 2


class TestBounds:
    def test_a_manifest_that_never_ends_is_given_up(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client_module, "MANIFEST_LIMIT", 2048)
        server = serve(lambda seen: Reply(405) if seen.method == "HEAD" else Reply(200, body=b" " * 4096))

        with pytest.raises(BadAnswer, match="more than 2 KB"):
            RegistryClient().current_digest(_reference(server))

    def test_a_compressed_bomb_counts_unpacked(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        bomb = Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 50_000_000))
        server = serve(lambda seen: Reply(405) if seen.method == "HEAD" else bomb)

        with pytest.raises(BadAnswer, match="more than 4096 KB"):
            RegistryClient().current_digest(_reference(server))

    def test_a_body_that_only_trickles_is_given_up(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transport, "_BODY_SECONDS", 0.2)
        slow = Reply(200, body=b" " * 100_000, drip=True)
        server = serve(lambda seen: Reply(405) if seen.method == "HEAD" else slow)

        with pytest.raises(Unreachable, match="took longer"):
            RegistryClient().current_digest(_reference(server))

    def test_silence_is_given_up(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            reference = parse_reference(f"127.0.0.1:{silent.getsockname()[1]}/acme/bot")
            with pytest.raises(Unreachable, match=r"did not answer within 0\.2 s"):
                RegistryClient(timeout=0.2).current_digest(reference)

    def test_an_answer_cut_short_is_no_answer(self, serve: Serve) -> None:
        server = serve(lambda seen: Reply(405) if seen.method == "HEAD" else Reply(200, body=b"{", drip=True))

        with pytest.raises(Unreachable, match="broke off"):
            RegistryClient().current_digest(_reference(server))

    def test_failures_of_the_server_are_transient(self, serve: Serve) -> None:
        server = serve(lambda _: Reply(503))

        with pytest.raises(Unreachable, match="status 503"):
            RegistryClient().current_digest(_reference(server))


class TestRedirects:
    def test_credentials_do_not_follow_to_another_host(self, serve: Serve) -> None:
        other = serve(lambda _: Reply(200, ANNOUNCED))
        server = serve(
            lambda seen: (
                Reply(307, {"Location": f"http://{other.address}{seen.path}"})
                if "Authorization" in seen.headers
                else Reply(401, {"WWW-Authenticate": 'Basic realm="test"'})
            )
        )

        assert _knowing(server).current_digest(_reference(server)) == DIGEST
        assert "Authorization" in server.seen[-1].headers
        assert ["Authorization" in seen.headers for seen in other.seen] == [False]

    def test_they_do_follow_within_the_host(self, serve: Serve) -> None:
        def respond(seen: Seen) -> Reply:
            if "Authorization" not in seen.headers:
                return Reply(401, {"WWW-Authenticate": 'Basic realm="test"'})
            moved = seen.path.startswith("/moved")
            return Reply(200, ANNOUNCED) if moved else Reply(302, {"Location": f"/moved{seen.path}"})

        server = serve(respond)

        assert _knowing(server).current_digest(_reference(server)) == DIGEST

    def test_another_host_that_asks_for_credentials_gets_none(self, serve: Serve) -> None:
        other = serve(lambda _: Reply(401, {"WWW-Authenticate": 'Basic realm="give me"'}))
        server = serve(lambda seen: Reply(307, {"Location": f"http://{other.address}{seen.path}"}))

        with pytest.raises(BadAnswer, match="redirects to a host that asks"):
            _knowing(server).current_digest(_reference(server))
        assert ["Authorization" in seen.headers for seen in other.seen] == [False]

    def test_the_body_of_a_redirect_is_not_read(self, serve: Serve) -> None:
        server = serve(
            lambda seen: (
                Reply(302, {"Location": "/moved"}, b" " * 100_000, drip=True)
                if seen.path != "/moved"
                else Reply(200, body=MANIFEST)
            )
        )

        assert RegistryClient().current_digest(_reference(server)) == DIGEST

    @pytest.mark.parametrize(
        "location", ["", "ftp://127.0.0.1/x", "http://[", "/v2/acme/bot/manifests/managed", "/a"]
    )
    def test_redirects_that_lead_nowhere_end(self, serve: Serve, location: str) -> None:
        server = serve(lambda _: Reply(302, {"Location": location} if location else {}))

        with pytest.raises(BadAnswer, match="redirects"):
            RegistryClient().current_digest(_reference(server))
        assert len(server.seen) <= 6

    def test_a_token_server_that_redirects_gives_no_token(self, serve: Serve) -> None:
        other = serve(lambda _: Reply(200, body=b'{"token": "stolen"}'))
        tokens = serve(lambda _: Reply(302, {"Location": f"http://{other.address}/"}))
        server = serve(lambda _: Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{tokens.address}/token"'}))

        with pytest.raises(BadAnswer, match="gave no token"):
            _knowing(server).current_digest(_reference(server))
        assert other.seen == []


class TestChallenges:
    @pytest.mark.parametrize(
        ("challenge", "complaint"),
        [
            ("Negotiate", "no way known"),
            (None, "no way known"),
            ("Bearer", "no valid token server"),
            ('Bearer realm="file:///etc/passwd"', "no valid token server"),
            ('Bearer realm="http://["', "no valid token server"),
        ],
    )
    def test_what_cannot_be_answered_is_said(self, serve: Serve, challenge: str | None, complaint: str) -> None:
        server = serve(lambda _: Reply(401, {"WWW-Authenticate": challenge} if challenge else {}))

        with pytest.raises(BadAnswer, match=complaint):
            _knowing(server).current_digest(_reference(server))

    def test_a_token_is_preferred_to_a_password(self, serve: Serve) -> None:
        tokens = serve(lambda _: Reply(200, body=b'{"token": "t"}'))
        offers = f'Basic realm="x"\nBearer realm="http://{tokens.address}/token?a=b",service="s, t"'
        server = serve(
            lambda seen: (
                Reply(200, ANNOUNCED)
                if seen.headers.get("Authorization") == "Bearer t"
                else Reply(401, {"WWW-Authenticate": offers})
            )
        )

        assert RegistryClient().current_digest(_reference(server)) == DIGEST
        assert tokens.seen[0].path == "/token?a=b&service=s%2C+t&scope=repository%3Aacme%2Fbot%3Apull"

    @pytest.mark.parametrize(
        "body", [b"", b"[]", b'{"token": ""}', b'{"token": 1}', b'{"token": "a\\nb"}', '{"token": "ü"}'.encode()]
    )
    def test_a_token_that_is_none_is_not_sent(self, serve: Serve, body: bytes) -> None:
        tokens = serve(lambda _: Reply(200, body=body))
        server = serve(lambda _: Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{tokens.address}/token"'}))

        with pytest.raises(BadAnswer, match="gave no token"):
            RegistryClient().current_digest(_reference(server))

    def test_a_registry_that_never_has_enough_is_asked_twice(self, serve: Serve) -> None:
        tokens = serve(lambda _: Reply(200, body=b'{"token": "t"}'))
        server = serve(lambda _: Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{tokens.address}/token"'}))

        with pytest.raises(WrongCredentials):
            RegistryClient().current_digest(_reference(server))
        assert (len(server.seen), len(tokens.seen)) == (2, 1)

    def test_a_token_refused_before_its_time_is_renewed(self, serve: Serve) -> None:
        valid = ["one"]
        tokens = serve(lambda _: Reply(200, body=json.dumps({"token": valid[-1]}).encode()))
        server = serve(
            lambda seen: (
                Reply(200, ANNOUNCED)
                if seen.headers.get("Authorization") == f"Bearer {valid[-1]}"
                else Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{tokens.address}/token"'})
            )
        )
        client = RegistryClient()
        client.current_digest(_reference(server))
        valid.append("two")

        assert client.current_digest(_reference(server)) == DIGEST

    def test_a_refusal_after_login_is_wrong_credentials(self, serve: Serve) -> None:
        server = serve(lambda _: Reply(403))

        with pytest.raises(WrongCredentials):
            RegistryClient().current_digest(_reference(server))

    def test_credentials_of_one_registry_are_not_shown_to_another(self, serve: Serve) -> None:
        server = serve(lambda _: Reply(401, {"WWW-Authenticate": 'Basic realm="test"'}))
        elsewhere = Credentials({"ghcr.io": Credential("fleet", "secret")})

        with pytest.raises(WrongCredentials):
            RegistryClient(elsewhere).current_digest(_reference(server))
        assert ["Authorization" in seen.headers for seen in server.seen] == [False]

    def test_netrc_is_not_consulted(self, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
        monkeypatch.setenv("NETRC", str(netrc))
        server = serve(lambda _: Reply(200, ANNOUNCED))

        RegistryClient().current_digest(_reference(server))

        assert "Authorization" not in server.seen[0].headers


class TestEncryption:
    """A registry that is not on a loopback address, as far as its name goes."""

    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        key = rsa.generate_private_key(65537, 2048)
        path = tmp_path / "registry.pem"
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.write_bytes(private + self_signed(key, "registry.test").public_bytes(pem))
        return path

    @pytest.fixture
    def serve_tls(
        self, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Callable[[Respond], Reference]]:
        real = socket.getaddrinfo

        def resolve(host: str, *arguments: Any, **options: Any) -> Any:
            return real("127.0.0.1" if host == "registry.test" else host, *arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with ExitStack() as servers:

            def serve_one(respond: Respond) -> Reference:
                server = servers.enter_context(scripted_server(respond, context))
                port = server.address.rpartition(":")[2]
                return parse_reference(f"registry.test:{port}/acme/bot:managed")

            yield serve_one

    @pytest.fixture
    def trust(self, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))

    def test_a_certificate_nobody_vouches_for_is_refused(self, serve_tls: Callable[[Respond], Reference]) -> None:
        reference = serve_tls(lambda _: Reply(200, ANNOUNCED))

        with pytest.raises(Unreachable, match="no certificate that can be verified"):
            RegistryClient().current_digest(reference)

    def test_an_own_authority_may_vouch(self, serve_tls: Callable[[Respond], Reference], trust: None) -> None:
        reference = serve_tls(lambda _: Reply(200, ANNOUNCED))

        assert RegistryClient().current_digest(reference) == DIGEST

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(307, {"Location": "http://127.0.0.1:1/"}),
            Reply(401, {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/token"'}),
        ],
    )
    def test_nothing_leads_from_encryption_to_plain_text(
        self, serve_tls: Callable[[Respond], Reference], trust: None, reply: Reply
    ) -> None:
        reference = serve_tls(lambda _: reply)

        with pytest.raises(BadAnswer, match=r"plain HTTP|without TLS"):
            RegistryClient().current_digest(reference)

    def test_plain_text_is_for_registries_named_as_such(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, serve_tls: Callable[[Respond], Reference]
    ) -> None:
        server = serve(lambda _: Reply(200, ANNOUNCED))
        registry = f"registry.test:{server.address.rpartition(':')[2]}"
        reference = parse_reference(f"{registry}/acme/bot:managed")

        with pytest.raises(RegistryError):
            RegistryClient().current_digest(reference)
        assert server.seen == []
        assert RegistryClient(insecure_registries=[registry]).current_digest(reference) == DIGEST
