"""Image references: parse, normalize and pin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.rules.references import InvalidReference, Reference, is_digest, parse_reference, parse_registry

DIGEST = "sha256:" + "0123456789abcdef" * 4

_labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
_ports = st.integers(1, 65535).map(lambda port: f":{port}")
_registries = st.one_of(
    st.tuples(_labels, _labels, st.one_of(st.just(""), _ports)).map(lambda p: f"{p[0]}.{p[1]}{p[2]}"),
    st.tuples(_labels, _ports).map("".join),
    st.just("localhost"),
)
_components = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True)
_tags = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
_digests = st.none() | st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:".__add__)
_repositories = st.lists(_components, min_size=2, max_size=4).map("/".join)


@given(registry=_registries, repository=_repositories, tag=_tags, digest=_digests)
def test_parsing_returns_the_parts_of_a_reference(
    registry: str, repository: str, tag: str | None, digest: str | None
) -> None:
    text = f"{registry}/{repository}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")

    assert parse_reference(text) == Reference(registry, repository, tag, digest)


@given(registry=_registries, repository=_repositories, tag=_tags, digest=_digests)
def test_the_normalized_form_parses_to_itself(
    registry: str, repository: str, tag: str | None, digest: str | None
) -> None:
    normalized = str(Reference(registry, repository, tag, digest))

    assert str(parse_reference(normalized)) == normalized


@given(st.text(max_size=60) | st.from_regex(r"[a-zA-Z0-9./:@_-]{0,60}", fullmatch=True))
def test_any_text_is_refused_or_has_a_stable_normalized_form(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidReference:
        return
    assert str(parse_reference(str(reference))) == str(reference)
    assert reference.name == reference.name.lower()


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("acme/bot", "docker.io/acme/bot:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/acme/bot", "docker.io/acme/bot:latest"),
        ("localhost/bot", "localhost/bot:latest"),
        ("localhost:5000/x:tag", "localhost:5000/x:tag"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest"),
        ("registry:5000/x", "registry:5000/x:latest"),
        ("GHCR.io/acme/paperclip:Managed", "ghcr.io/acme/paperclip:Managed"),
        (f"ghcr.io/acme/paperclip@{DIGEST}", f"ghcr.io/acme/paperclip@{DIGEST}"),
        (f"ghcr.io/acme/paperclip:1@{DIGEST}", f"ghcr.io/acme/paperclip:1@{DIGEST}"),
    ],
)
def test_different_spellings_are_normalized(text: str, normalized: str) -> None:
    assert str(parse_reference(text)) == normalized


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "needs a repository"),
        ("ghcr.io/", "cannot be part of the repository"),
        ("/bot", "cannot be part of the repository"),
        ("ghcr.io//bot", "cannot be part of the repository"),
        ("ghcr.io/acme/../evil", "cannot be part of the repository"),
        ("ghcr.io/acme/bot ", "cannot be part of the repository"),
        ("acme/bot\n", "cannot be part of the repository"),
        ("bot:one:two", "cannot be part of the repository"),
        ("ghcr.io/Acme/bot", "must be in lower case"),
        ("Bot", "must be in lower case"),
        ("https://ghcr.io/acme/bot", "Leave out the scheme"),
        ("-bad.example/bot", "is not a registry"),
        ("ghcr.io:http/bot", "is not a registry"),
        ("user@ghcr.io/bot", "is not a digest"),
        ("ghcr.io:0/bot", "no valid port"),
        ("ghcr.io:65536/bot", "no valid port"),
        ("bot:", "is not a tag"),
        ("bot:.hidden", "is not a tag"),
        ("bot:" + "t" * 129, "is not a tag"),
        ("bot@", "is not a digest"),
        ("bot@sha256:abc", "is not a digest"),
        (f"bot@{DIGEST.upper()}", "is not a digest"),
        (f"bot@{DIGEST}@{DIGEST}", "is not a digest"),
        ("a" * 64, "id of a local image"),
        ("ghcr.io/" + "a" * 250, "at most 255"),
    ],
)
def test_an_invalid_reference_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidReference, match=reason):
        parse_reference(text)


def test_the_longest_name_and_tag_are_accepted() -> None:
    reference = parse_reference("ghcr.io/" + "a" * 247 + ":" + "t" * 128)

    assert len(reference.name) == 255


def test_pinning_replaces_tag_and_digest() -> None:
    other = "sha256:" + "f" * 64

    assert parse_reference("nginx:1").pinned(DIGEST) == f"docker.io/library/nginx@{DIGEST}"
    assert parse_reference(f"localhost:5000/x@{other}").pinned(DIGEST) == f"localhost:5000/x@{DIGEST}"


def test_pinning_refuses_an_invalid_digest() -> None:
    with pytest.raises(InvalidReference, match="is not a digest"):
        parse_reference("nginx").pinned("latest")


@pytest.mark.parametrize(
    ("text", "registry"),
    [
        ("ghcr.io", "ghcr.io"),
        ("GHCR.IO", "ghcr.io"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("localhost", "localhost"),
        ("index.docker.io", "docker.io"),
        ("nginx", None),
        ("ghcr.io/acme", None),
    ],
)
def test_registries_are_distinguished_from_repositories(text: str, registry: str | None) -> None:
    assert parse_registry(text) == registry


def test_digests_are_recognized() -> None:
    assert is_digest(DIGEST)
    assert not is_digest(DIGEST + "0")
    assert not is_digest(DIGEST + "\n")
    assert not is_digest("sha512:" + "0" * 128)
