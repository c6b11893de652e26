"""The registry client with servers that send wrong, slow, endless or misleading responses."""

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
from daemon.registry.client import RegistryClient
from daemon.registry.credentials import Credential, Credentials
from daemon.registry.errors import InvalidResponse, RateLimited, RegistryError, Unreachable, WrongCredentials
from portal.rules.references import Reference, parse_reference
from tests.daemon.registry.guarded import self_signed
from tests.daemon.registry.pushing import compute_digest
from tests.daemon.registry.scripted import Reply, Request, ScriptedServer, scripted_server

MANIFEST = json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode()
DIGEST = compute_digest(MANIFEST)
OTHER = "sha256:" + "0" * 64
ANNOUNCED = {"Docker-Content-Digest": DIGEST}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

Respond = Callable[[Request], Reply]
Serve = Callable[[Respond], ScriptedServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a scripted server for the duration of the test."""
    with ExitStack() as servers:
        yield lambda respond: servers.enter_context(scripted_server(respond))


def _reference(server: ScriptedServer) -> Reference:
    return parse_reference(f"{server.address}/acme/bot:managed")


def _client_with_credentials(server: ScriptedServer, **options: Any) -> RegistryClient:
    return RegistryClient(Credentials({server.address: Credential("fleet", "secret")}), **options)


def test_digest_is_requested_once_with_all_media_types(serve: Serve) -> None:
    server = serve(lambda _: Reply(200, ANNOUNCED))

    assert RegistryClient().get_current_digest(_reference(server)) == DIGEST

    [request] = server.requests
    assert (request.method, request.path) == ("HEAD", "/v2/acme/bot/manifests/managed")
    assert request.headers["Accept"].split(", ") == [
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
def test_manifest_is_hashed_when_head_returns_no_digest(serve: Serve, head: Reply) -> None:
    server = serve(lambda request: head if request.method == "HEAD" else Reply(200, body=MANIFEST))

    assert RegistryClient().resolve(_reference(server), ["linux/amd64"]).digest == DIGEST
    assert server.requests[1].headers["Accept-Encoding"] == "identity"


def test_digest_of_a_compressed_body_is_that_of_its_content(serve: Serve) -> None:
    packed = Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(MANIFEST))
    server = serve(lambda request: Reply(405) if request.method == "HEAD" else packed)

    assert RegistryClient().get_current_digest(_reference(server)) == DIGEST


def test_wrong_digest_is_detected(serve: Serve) -> None:
    server = serve(lambda _: Reply(200, {"Docker-Content-Digest": OTHER}, MANIFEST))

    with pytest.raises(InvalidResponse, match="other content"):
        RegistryClient().resolve(_reference(server), ["linux/amd64"])


def test_missing_manifest_of_an_announced_digest_is_an_invalid_response(serve: Serve) -> None:
    server = serve(lambda request: Reply(200, ANNOUNCED) if request.method == "HEAD" else Reply(404))

    with pytest.raises(InvalidResponse, match="does not have it"):
        RegistryClient().resolve(_reference(server), ["linux/amd64"])


class TestRateLimits:
    @pytest.mark.parametrize(
        ("asked", "seconds"),
        [
            ("120", 120),
            (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
            (format_datetime(NOW - timedelta(hours=1), usegmt=True), 1),
            ("0", 1),
            ("99999999999", 6 * 3600),
            ("soon", 60),
            ("Mon, 01 Jan 2020 00:00:00 +99999999999999", 60),
            ("1 Jan 99999999999999999999 00:00:00 GMT", 60),
            (None, 60),
        ],
    )
    def test_retry_after_is_parsed_and_bounded(self, serve: Serve, asked: str | None, seconds: float) -> None:
        server = serve(lambda _: Reply(429, {"Retry-After": asked} if asked else {}))

        with pytest.raises(RateLimited) as limit:
            RegistryClient(clock=lambda: NOW).get_current_digest(_reference(server))

        assert limit.value.retry_after == seconds

    def test_no_request_is_sent_before_the_limit_ends(self, serve: Serve) -> None:
        now = NOW
        busy = serve(lambda _: Reply(429, {"Retry-After": "120"}))
        calm = serve(lambda _: Reply(200, ANNOUNCED))
        client = RegistryClient(clock=lambda: now)
        with pytest.raises(RateLimited):
            client.get_current_digest(_reference(busy))

        now += timedelta(seconds=100)
        with pytest.raises(RateLimited) as limit:
            client.get_current_digest(parse_reference(f"{busy.address}/acme/other"))
        assert limit.value.retry_after == 20
        assert len(busy.requests) == 1
        assert client.get_current_digest(_reference(calm)) == DIGEST

        now += timedelta(seconds=21)
        with pytest.raises(RateLimited):
            client.get_current_digest(_reference(busy))
        assert len(busy.requests) == 2


class TestLimits:
    def test_too_long_manifest_is_refused(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client_module, "MAX_MANIFEST_BYTES", 2048)
        server = serve(lambda request: Reply(405) if request.method == "HEAD" else Reply(200, body=b" " * 4096))

        with pytest.raises(InvalidResponse, match="more than 2 KB"):
            RegistryClient().get_current_digest(_reference(server))

    def test_compressed_body_is_limited_by_its_unpacked_size(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bomb = Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 50_000_000))
        server = serve(lambda request: Reply(405) if request.method == "HEAD" else bomb)

        with pytest.raises(InvalidResponse, match="more than 4096 KB"):
            RegistryClient().get_current_digest(_reference(server))

    def test_missing_response_runs_into_the_timeout(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            reference = parse_reference(f"127.0.0.1:{silent.getsockname()[1]}/acme/bot")
            with pytest.raises(Unreachable, match=r"did not answer within 0\.2 s"):
                RegistryClient(timeout=0.2).get_current_digest(reference)

    def test_incomplete_response_raises_unreachable(self, serve: Serve) -> None:
        server = serve(lambda request: Reply(405) if request.method == "HEAD" else Reply(200, body=b"{", drip=True))

        with pytest.raises(Unreachable, match="broke off"):
            RegistryClient().get_current_digest(_reference(server))

    def test_server_error_raises_unreachable(self, serve: Serve) -> None:
        server = serve(lambda _: Reply(503))

        with pytest.raises(Unreachable, match="status 503"):
            RegistryClient().get_current_digest(_reference(server))


class TestRedirects:
    def test_credentials_are_not_sent_to_another_host(self, serve: Serve) -> None:
        other = serve(lambda _: Reply(200, ANNOUNCED))
        server = serve(
            lambda request: (
                Reply(307, {"Location": f"http://{other.address}{request.path}"})
                if "Authorization" in request.headers
                else Reply(401, {"WWW-Authenticate": 'Basic realm="test"'})
            )
        )

        assert _client_with_credentials(server).get_current_digest(_reference(server)) == DIGEST
        assert "Authorization" in server.requests[-1].headers
        assert ["Authorization" in request.headers for request in other.requests] == [False]

    def test_credentials_are_sent_again_to_the_same_host(self, serve: Serve) -> None:
        def respond(request: Request) -> Reply:
            if "Authorization" not in request.headers:
                return Reply(401, {"WWW-Authenticate": 'Basic realm="test"'})
            moved = request.path.startswith("/moved")
            return Reply(200, ANNOUNCED) if moved else Reply(302, {"Location": f"/moved{request.path}"})

        server = serve(respond)

        assert _client_with_credentials(server).get_current_digest(_reference(server)) == DIGEST

    def test_other_host_that_requires_credentials_gets_none(self, serve: Serve) -> None:
        other = serve(lambda _: Reply(401, {"WWW-Authenticate": 'Basic realm="give me"'}))
        server = serve(lambda request: Reply(307, {"Location": f"http://{other.address}{request.path}"}))

        with pytest.raises(InvalidResponse, match="redirects to a host that requires"):
            _client_with_credentials(server).get_current_digest(_reference(server))
        assert ["Authorization" in request.headers for request in other.requests] == [False]

    def test_body_of_a_redirect_is_not_read(self, serve: Serve) -> None:
        server = serve(
            lambda request: (
                Reply(302, {"Location": "/moved"}, b" " * 100_000, drip=True)
                if request.path != "/moved"
                else Reply(200, body=MANIFEST)
            )
        )

        assert RegistryClient().get_current_digest(_reference(server)) == DIGEST

    @pytest.mark.parametrize(
        "location", ["", "ftp://127.0.0.1/x", "http://[", "/v2/acme/bot/manifests/managed", "/a"]
    )
    def test_invalid_and_endless_redirects_are_refused(self, serve: Serve, location: str) -> None:
        server = serve(lambda _: Reply(302, {"Location": location} if location else {}))

        with pytest.raises(InvalidResponse, match="redirects"):
            RegistryClient().get_current_digest(_reference(server))
        assert len(server.requests) <= 6

    def test_redirect_of_the_token_server_is_refused(self, serve: Serve) -> None:
        other = serve(lambda _: Reply(200, body=b'{"token": "stolen"}'))
        tokens = serve(lambda _: Reply(302, {"Location": f"http://{other.address}/"}))
        server = serve(lambda _: Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{tokens.address}/token"'}))

        with pytest.raises(InvalidResponse, match="returned no token"):
            _client_with_credentials(server).get_current_digest(_reference(server))
        assert other.requests == []


class TestChallenges:
    @pytest.mark.parametrize(
        ("challenge", "complaint"),
        [
            ("Negotiate", "unsupported kind of authentication"),
            (None, "unsupported kind of authentication"),
            ("Bearer", "does not name a valid token server"),
            ("Bearer realm=", "does not name a valid token server"),
            ('Bearer realm=,service="x",,=,==', "does not name a valid token server"),
            ('Bearer realm="file:///etc/passwd"', "does not name a valid token server"),
            ('Bearer realm="http://["', "does not name a valid token server"),
        ],
    )
    def test_unsupported_challenge_is_reported(self, serve: Serve, challenge: str | None, complaint: str) -> None:
        server = serve(lambda _: Reply(401, {"WWW-Authenticate": challenge} if challenge else {}))

        with pytest.raises(InvalidResponse, match=complaint):
            _client_with_credentials(server).get_current_digest(_reference(server))

    def test_token_is_preferred_to_password(self, serve: Serve) -> None:
        tokens = serve(lambda _: Reply(200, body=b'{"token": "t"}'))
        offers = f'Basic realm="x"\nBearer realm="http://{tokens.address}/token?a=b",service="s, t"'
        server = serve(
            lambda request: (
                Reply(200, ANNOUNCED)
                if request.headers.get("Authorization") == "Bearer t"
                else Reply(401, {"WWW-Authenticate": offers})
            )
        )

        assert RegistryClient().get_current_digest(_reference(server)) == DIGEST
        assert tokens.requests[0].path == "/token?a=b&service=s%2C+t&scope=repository%3Aacme%2Fbot%3Apull"

    @pytest.mark.parametrize(
        "body", [b"", b"[]", b'{"token": ""}', b'{"token": 1}', b'{"token": "a\\nb"}', '{"token": "ü"}'.encode()]
    )
    def test_invalid_token_is_not_sent(self, serve: Serve, body: bytes) -> None:
        tokens = serve(lambda _: Reply(200, body=body))
        server = serve(lambda _: Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{tokens.address}/token"'}))

        with pytest.raises(InvalidResponse, match="returned no token"):
            RegistryClient().get_current_digest(_reference(server))

    def test_registry_that_refuses_every_token_gets_two_requests(self, serve: Serve) -> None:
        tokens = serve(lambda _: Reply(200, body=b'{"token": "t"}'))
        server = serve(lambda _: Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{tokens.address}/token"'}))

        with pytest.raises(WrongCredentials):
            RegistryClient().get_current_digest(_reference(server))
        assert (len(server.requests), len(tokens.requests)) == (2, 1)

    def test_refused_token_is_renewed(self, serve: Serve) -> None:
        valid = ["one"]
        tokens = serve(lambda _: Reply(200, body=json.dumps({"token": valid[-1]}).encode()))
        server = serve(
            lambda request: (
                Reply(200, ANNOUNCED)
                if request.headers.get("Authorization") == f"Bearer {valid[-1]}"
                else Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{tokens.address}/token"'})
            )
        )
        client = RegistryClient()
        client.get_current_digest(_reference(server))
        valid.append("two")

        assert client.get_current_digest(_reference(server)) == DIGEST

    def test_forbidden_raises_wrong_credentials(self, serve: Serve) -> None:
        server = serve(lambda _: Reply(403))

        with pytest.raises(WrongCredentials):
            RegistryClient().get_current_digest(_reference(server))

    def test_credentials_are_sent_to_their_own_registry_only(self, serve: Serve) -> None:
        server = serve(lambda _: Reply(401, {"WWW-Authenticate": 'Basic realm="test"'}))
        elsewhere = Credentials({"ghcr.io": Credential("fleet", "secret")})

        with pytest.raises(WrongCredentials):
            RegistryClient(elsewhere).get_current_digest(_reference(server))
        assert ["Authorization" in request.headers for request in server.requests] == [False]

    def test_netrc_is_not_read(self, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login fleet password secret\n")
        monkeypatch.setenv("NETRC", str(netrc))
        server = serve(lambda _: Reply(200, ANNOUNCED))

        RegistryClient().get_current_digest(_reference(server))

        assert "Authorization" not in server.requests[0].headers


class TestEncryption:
    """A registry whose name is not a loopback address."""

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

    def test_untrusted_certificate_is_refused(self, serve_tls: Callable[[Respond], Reference]) -> None:
        reference = serve_tls(lambda _: Reply(200, ANNOUNCED))

        with pytest.raises(Unreachable, match="certificate that cannot be verified"):
            RegistryClient().get_current_digest(reference)

    def test_private_certificate_authority_is_trusted_when_configured(
        self, serve_tls: Callable[[Respond], Reference], trust: None
    ) -> None:
        reference = serve_tls(lambda _: Reply(200, ANNOUNCED))

        assert RegistryClient().get_current_digest(reference) == DIGEST

    @pytest.mark.parametrize(
        "reply",
        [
            Reply(307, {"Location": "http://127.0.0.1:1/"}),
            Reply(401, {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/token"'}),
        ],
    )
    def test_redirects_from_https_to_http_are_refused(
        self, serve_tls: Callable[[Respond], Reference], trust: None, reply: Reply
    ) -> None:
        reference = serve_tls(lambda _: reply)

        with pytest.raises(InvalidResponse, match=r"plain HTTP|without TLS"):
            RegistryClient().get_current_digest(reference)

    def test_plain_http_is_used_for_insecure_registries_only(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, serve_tls: Callable[[Respond], Reference]
    ) -> None:
        server = serve(lambda _: Reply(200, ANNOUNCED))
        registry = f"registry.test:{server.address.rpartition(':')[2]}"
        reference = parse_reference(f"{registry}/acme/bot:managed")

        with pytest.raises(RegistryError):
            RegistryClient().get_current_digest(reference)
        assert server.requests == []
        assert RegistryClient(insecure_registries=[registry]).get_current_digest(reference) == DIGEST
