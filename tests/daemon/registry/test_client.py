"""The client against real registries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from daemon.registry.client import RegistryClient
from daemon.registry.credentials import Credential, Credentials
from daemon.registry.errors import BadAnswer, NotFound, Unreachable, WrongCredentials
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


def _fresh(address: str, tag: str = "managed") -> Reference:
    return parse_reference(f"{address}/acme/bot-{uuid4().hex[:8]}:{tag}")


def _knowing(address: str, *, password: str = PASSWORD, identity_token: str | None = None) -> RegistryClient:
    return RegistryClient(Credentials({address: Credential(USERNAME, password, identity_token)}))


@pytest.mark.parametrize("media_type", [pushing.OCI_MANIFEST, pushing.DOCKER_MANIFEST])
def test_a_single_manifest_is_resolved(registry: str, media_type: str) -> None:
    reference = _fresh(registry)
    digest = Pusher(registry, reference.repository).image("managed", "one", media_type)

    resolved = RegistryClient().resolve(reference, PLATFORMS)

    assert resolved.digest == digest
    assert resolved.platform_digests == {}


@pytest.mark.parametrize(
    ("index_type", "media_type"),
    [(pushing.OCI_INDEX, pushing.OCI_MANIFEST), (pushing.DOCKER_LIST, pushing.DOCKER_MANIFEST)],
)
def test_an_index_is_pinned_and_its_platforms_are_told(registry: str, index_type: str, media_type: str) -> None:
    reference = _fresh(registry)
    pusher = Pusher(registry, reference.repository)
    amd64, arm64 = (pusher.image(name, name, media_type) for name in ("amd64", "arm64"))
    entries = {"unknown/unknown": amd64, "linux/arm64/v8": arm64, "linux/amd64": amd64}
    index = pusher.index("managed", entries, index_type)

    resolved = RegistryClient().resolve(reference, PLATFORMS)

    assert resolved.digest == index
    assert resolved.platform_digests == {"linux/amd64": amd64, "linux/arm64": arm64}


def test_a_pasted_digest_is_resolved_although_no_tag_points_at_it(registry: str) -> None:
    reference = _fresh(registry)
    pusher = Pusher(registry, reference.repository)
    old = pusher.image("managed", "old")
    pusher.image("managed", "new")

    pasted = parse_reference(reference.pinned(old))

    assert RegistryClient().resolve(pasted, PLATFORMS).digest == old


def test_a_moved_tag_is_seen_at_the_next_question(registry: str) -> None:
    reference = _fresh(registry)
    pusher = Pusher(registry, reference.repository)
    client = RegistryClient()

    seen = []
    for seed in ("one", "two"):
        pushed = pusher.image("managed", seed)
        seen.append(client.current_digest(reference) == pushed)

    assert seen == [True, True]


def test_tags_digests_and_repositories_that_are_not_there(registry: str) -> None:
    reference = _fresh(registry)
    client = RegistryClient()
    with pytest.raises(NotFound, match=reference.repository):
        client.current_digest(reference)
    Pusher(registry, reference.repository).image("other", "one")
    with pytest.raises(NotFound):
        client.current_digest(reference)
    with pytest.raises(NotFound):
        client.resolve(parse_reference(reference.pinned("sha256:" + "0" * 64)), PLATFORMS)


def test_an_image_for_other_platforms_names_those(registry: str) -> None:
    reference = _fresh(registry)
    pusher = Pusher(registry, reference.repository)
    pusher.index("managed", {"linux/s390x": pusher.image("s390x", "one")})

    with pytest.raises(BadAnswer, match=r"not built for linux/amd64, linux/arm64, only for linux/s390x"):
        RegistryClient().resolve(reference, PLATFORMS)


def test_nobody_listening_is_told_as_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 cannot be reached"):
        RegistryClient().current_digest(parse_reference("127.0.0.1:1/acme/bot"))


class TestPasswords:
    @pytest.fixture
    def address(self, tmp_path: Path) -> Iterator[str]:
        with password_registry(tmp_path) as address:
            yield address

    def test_the_right_one_opens_the_registry(self, address: str) -> None:
        reference = _fresh(address)
        digest = Pusher(address, reference.repository, {"Authorization": BASIC}).image("managed", "one")

        assert _knowing(address).resolve(reference, PLATFORMS).digest == digest

    def test_a_wrong_one_is_told_apart_from_trouble(self, address: str) -> None:
        with pytest.raises(WrongCredentials, match="does not let us read") as refusal:
            _knowing(address, password="wrong horse").current_digest(_fresh(address))
        assert "wrong horse" not in str(refusal.value)

    def test_none_is_asked_for(self, address: str) -> None:
        with pytest.raises(WrongCredentials, match="asks for a user and password"):
            RegistryClient().current_digest(_fresh(address))


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
        return _fresh(address)

    @pytest.fixture
    def digest(self, address: str, tokens: TokenServer, reference: Reference) -> str:
        headers = bearer(tokens.sign(reference.repository, ["pull", "push"]))
        return Pusher(address, reference.repository, headers).image("managed", "one")

    @pytest.mark.parametrize("reply_key", ["token", "access_token"])
    def test_strangers_are_given_one(
        self, tokens: TokenServer, reference: Reference, digest: str, reply_key: str
    ) -> None:
        tokens.reply_key = reply_key

        assert RegistryClient().resolve(reference, PLATFORMS).digest == digest
        assert [("Authorization" in seen.headers, seen.method) for seen in tokens.asked] == [(False, "GET")]

    def test_a_password_is_shown_to_the_token_server(
        self, address: str, tokens: TokenServer, reference: Reference, digest: str
    ) -> None:
        tokens.anonymous = False

        assert _knowing(address).resolve(reference, PLATFORMS).digest == digest

    def test_an_identity_token_is_traded_in(
        self, address: str, tokens: TokenServer, reference: Reference, digest: str
    ) -> None:
        tokens.anonymous = False
        tokens.reply_key = "access_token"
        client = _knowing(address, password="", identity_token=IDENTITY_TOKEN)

        assert client.resolve(reference, PLATFORMS).digest == digest
        assert [seen.method for seen in tokens.asked] == ["POST"]

    def test_wrong_and_missing_credentials_are_told_apart(
        self, address: str, tokens: TokenServer, reference: Reference
    ) -> None:
        tokens.anonymous = False

        with pytest.raises(WrongCredentials, match=r"token server .* refuses the credentials"):
            _knowing(address, password="wrong horse").current_digest(reference)
        with pytest.raises(WrongCredentials, match="refuses anonymous access"):
            RegistryClient().current_digest(reference)

    def test_one_token_serves_until_it_expires(self, tokens: TokenServer, reference: Reference, digest: str) -> None:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        client = RegistryClient(clock=lambda: now)

        for _ in range(3):
            client.current_digest(reference)
        assert len(tokens.asked) == 1

        now += timedelta(seconds=tokens.lifetime)
        assert client.current_digest(reference) == digest
        assert len(tokens.asked) == 2

    def test_each_repository_has_its_own(
        self, address: str, tokens: TokenServer, reference: Reference, digest: str
    ) -> None:
        client = RegistryClient()
        client.current_digest(reference)
        other = _fresh(address)

        with pytest.raises(NotFound):
            client.current_digest(other)
        assert [other.repository.partition("/")[2] in seen.path for seen in tokens.asked] == [False, True]
