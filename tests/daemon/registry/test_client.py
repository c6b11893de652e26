"""The registry client with real registries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from daemon.registry.client import RegistryClient
from daemon.registry.credentials import Credential, Credentials
from daemon.registry.errors import InvalidResponse, NotFound, Unreachable, WrongCredentials
from portal.rules.references import Reference, parse_reference
from tests.daemon.registry import pushing
from tests.daemon.registry.guarded import (
    BASIC,
    IDENTITY_TOKEN,
    PASSWORD,
    USERNAME,
    TokenServer,
    bearer,
    password_registry,
    token_registry,
)
from tests.daemon.registry.pushing import Pusher

pytestmark = pytest.mark.registry

PLATFORMS = ["linux/amd64", "linux/arm64"]


def _new_reference(address: str, tag: str = "managed") -> Reference:
    return parse_reference(f"{address}/acme/bot-{uuid4().hex[:8]}:{tag}")


def _client_with_credentials(
    address: str, *, password: str = PASSWORD, identity_token: str | None = None
) -> RegistryClient:
    return RegistryClient(Credentials({address: Credential(USERNAME, password, identity_token)}))


@pytest.mark.parametrize("media_type", [pushing.OCI_MANIFEST, pushing.DOCKER_MANIFEST])
def test_single_manifest_is_resolved(registry: str, media_type: str) -> None:
    reference = _new_reference(registry)
    digest = Pusher(registry, reference.repository).image("managed", "one", media_type)

    resolved = RegistryClient().resolve(reference, PLATFORMS)

    assert resolved.digest == digest
    assert resolved.platform_digests == {}


@pytest.mark.parametrize(
    ("index_type", "media_type"),
    [(pushing.OCI_INDEX, pushing.OCI_MANIFEST), (pushing.DOCKER_LIST, pushing.DOCKER_MANIFEST)],
)
def test_index_is_resolved_with_its_platforms(registry: str, index_type: str, media_type: str) -> None:
    reference = _new_reference(registry)
    pusher = Pusher(registry, reference.repository)
    amd64, arm64 = (pusher.image(name, name, media_type) for name in ("amd64", "arm64"))
    entries = {"unknown/unknown": amd64, "linux/arm64/v8": arm64, "linux/amd64": amd64}
    index = pusher.index("managed", entries, index_type)

    resolved = RegistryClient().resolve(reference, PLATFORMS)

    assert resolved.digest == index
    assert resolved.platform_digests == {"linux/amd64": amd64, "linux/arm64": arm64}


def test_digest_without_a_tag_is_resolved(registry: str) -> None:
    reference = _new_reference(registry)
    pusher = Pusher(registry, reference.repository)
    old = pusher.image("managed", "old")
    pusher.image("managed", "new")

    untagged = parse_reference(reference.pinned(old))

    assert RegistryClient().resolve(untagged, PLATFORMS).digest == old


def test_moved_tag_is_detected_by_the_next_request(registry: str) -> None:
    reference = _new_reference(registry)
    pusher = Pusher(registry, reference.repository)
    client = RegistryClient()

    seen = []
    for seed in ("one", "two"):
        pushed = pusher.image("managed", seed)
        seen.append(client.get_current_digest(reference) == pushed)

    assert seen == [True, True]


def test_missing_tag_digest_and_repository_raise_not_found(registry: str) -> None:
    reference = _new_reference(registry)
    client = RegistryClient()
    with pytest.raises(NotFound, match=reference.repository):
        client.get_current_digest(reference)
    Pusher(registry, reference.repository).image("other", "one")
    with pytest.raises(NotFound):
        client.get_current_digest(reference)
    with pytest.raises(NotFound):
        client.resolve(parse_reference(reference.pinned("sha256:" + "0" * 64)), PLATFORMS)


def test_error_for_a_missing_platform_names_the_existing_ones(registry: str) -> None:
    reference = _new_reference(registry)
    pusher = Pusher(registry, reference.repository)
    pusher.index("managed", {"linux/s390x": pusher.image("s390x", "one")})

    with pytest.raises(InvalidResponse, match=r"not built for linux/amd64, linux/arm64, only for linux/s390x"):
        RegistryClient().resolve(reference, PLATFORMS)


def test_closed_port_raises_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 cannot be reached"):
        RegistryClient().get_current_digest(parse_reference("127.0.0.1:1/acme/bot"))


class TestPasswords:
    @pytest.fixture
    def address(self, tmp_path: Path) -> Iterator[str]:
        with password_registry(tmp_path) as address:
            yield address

    def test_correct_password_grants_access(self, address: str) -> None:
        reference = _new_reference(address)
        digest = Pusher(address, reference.repository, {"Authorization": BASIC}).image("managed", "one")

        assert _client_with_credentials(address).resolve(reference, PLATFORMS).digest == digest

    def test_wrong_password_raises_wrong_credentials(self, address: str) -> None:
        with pytest.raises(WrongCredentials, match="refuses access") as refusal:
            _client_with_credentials(address, password="wrong horse").get_current_digest(_new_reference(address))
        assert "wrong horse" not in str(refusal.value)

    def test_missing_password_raises_wrong_credentials(self, address: str) -> None:
        with pytest.raises(WrongCredentials, match="requires a user and password"):
            RegistryClient().get_current_digest(_new_reference(address))


class TestTokens:
    @pytest.fixture
    def tokens(self) -> TokenServer:
        return TokenServer()

    @pytest.fixture
    def address(self, tmp_path: Path, tokens: TokenServer) -> Iterator[str]:
        with token_registry(tmp_path, tokens) as address:
            yield address

    @pytest.fixture
    def reference(self, address: str) -> Reference:
        return _new_reference(address)

    @pytest.fixture
    def digest(self, address: str, tokens: TokenServer, reference: Reference) -> str:
        headers = bearer(tokens.sign(reference.repository, ["pull", "push"]))
        return Pusher(address, reference.repository, headers).image("managed", "one")

    @pytest.mark.parametrize("reply_key", ["token", "access_token"])
    def test_anonymous_client_gets_a_token(
        self, tokens: TokenServer, reference: Reference, digest: str, reply_key: str
    ) -> None:
        tokens.reply_key = reply_key

        assert RegistryClient().resolve(reference, PLATFORMS).digest == digest
        assert [("Authorization" in request.headers, request.method) for request in tokens.requests] == [
            (False, "GET")
        ]

    def test_token_server_accepts_the_password(
        self, address: str, tokens: TokenServer, reference: Reference, digest: str
    ) -> None:
        tokens.anonymous = False

        assert _client_with_credentials(address).resolve(reference, PLATFORMS).digest == digest

    def test_identity_token_is_exchanged_for_a_token(
        self, address: str, tokens: TokenServer, reference: Reference, digest: str
    ) -> None:
        tokens.anonymous = False
        tokens.reply_key = "access_token"
        client = _client_with_credentials(address, password="", identity_token=IDENTITY_TOKEN)

        assert client.resolve(reference, PLATFORMS).digest == digest
        assert [request.method for request in tokens.requests] == ["POST"]

    def test_errors_distinguish_wrong_and_missing_credentials(
        self, address: str, tokens: TokenServer, reference: Reference
    ) -> None:
        tokens.anonymous = False

        with pytest.raises(WrongCredentials, match=r"token server .* refused the credentials"):
            _client_with_credentials(address, password="wrong horse").get_current_digest(reference)
        with pytest.raises(WrongCredentials, match="does not allow anonymous access"):
            RegistryClient().get_current_digest(reference)

    def test_token_is_reused_until_it_expires(self, tokens: TokenServer, reference: Reference, digest: str) -> None:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        client = RegistryClient(clock=lambda: now)

        for _ in range(3):
            client.get_current_digest(reference)
        assert len(tokens.requests) == 1

        now += timedelta(seconds=tokens.lifetime)
        assert client.get_current_digest(reference) == digest
        assert len(tokens.requests) == 2

    def test_each_repository_gets_its_own_token(
        self, address: str, tokens: TokenServer, reference: Reference, digest: str
    ) -> None:
        client = RegistryClient()
        client.get_current_digest(reference)
        other = _new_reference(address)

        with pytest.raises(NotFound):
            client.get_current_digest(other)
        assert [other.repository.partition("/")[2] in request.path for request in tokens.requests] == [False, True]
