"""Manifests and indexes: digests and the choice of a platform."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.registry.errors import InvalidResponse
from daemon.registry.manifests import compute_digest, find_platform_digests

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def _entry(digest: str, system: str, architecture: str, variant: str | None = None) -> dict[str, Any]:
    platform = {"os": system, "architecture": architecture} | ({"variant": variant} if variant else {})
    return {"digest": digest, "platform": platform}


def _index(*entries: Any, **more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(entries), **more}).encode()


def test_digest_is_the_hash_of_the_bytes() -> None:
    assert compute_digest(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_single_manifest_has_no_platform_digests() -> None:
    raw = json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode()

    assert find_platform_digests(raw, ["linux/amd64", "linux/arm64"]) == {}


@pytest.mark.parametrize(
    ("platform", "digest"),
    [
        ("linux/amd64", A),
        ("linux/arm64", B),
        ("linux/arm64/v8", B),
        ("linux/arm/v7", C),
        ("linux/arm", C),
        ("linux/arm/v6", A),
    ],
)
def test_each_platform_gets_its_manifest(platform: str, digest: str) -> None:
    raw = _index(
        _entry(C, "unknown", "unknown"),
        _entry(A, "linux", "amd64"),
        _entry(B, "linux", "arm64", "v8"),
        _entry(A, "linux", "arm", "v6"),
        _entry(C, "linux", "arm", "v7"),
        {"digest": B},
    )

    assert find_platform_digests(raw, [platform]) == {platform: digest}


def test_platform_without_a_build_is_missing() -> None:
    raw = _index(_entry(A, "linux", "amd64"), _entry(C, "unknown", "unknown"))

    assert find_platform_digests(raw, ["linux/amd64", "linux/s390x", "unknown/unknown"]) == {"linux/amd64": A}
    assert find_platform_digests(raw, []) == {}
    with pytest.raises(InvalidResponse, match="not built for linux/s390x, only for linux/amd64"):
        find_platform_digests(raw, ["linux/s390x"])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"[" * 100_000,
        b"[]",
        b'{"schemaVersion": 1, "fsLayers": []}',
        _index(_entry("sha256:short", "linux", "amd64")),
        _index("entry"),
        _index(layers=[]),
        b'{"schemaVersion": 2, "manifests": {}}',
        b'{"schemaVersion": 2, "manifests": ' + b"[" * 100_000,
        _index({"digest": [A]}),
        _index({"digest": A, "platform": "linux/amd64"}),
        _index({"digest": A, "platform": {"os": {}, "architecture": "amd64"}}),
        _index({"digest": A, "platform": {"os": ["linux"], "architecture": "amd64"}}),
        _index({"digest": A, "platform": {"os": "linux", "architecture": 64}}),
        _index({"digest": A, "platform": {"os": "linux", "architecture": "arm", "variant": {"v": 7}}}),
    ],
)
def test_manifest_that_engines_do_not_accept_is_an_invalid_response(raw: bytes) -> None:
    with pytest.raises(InvalidResponse):
        find_platform_digests(raw, ["linux/amd64"])


ANY_VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.sampled_from(["", "linux", "unknown", A])
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
PLATFORM = st.fixed_dictionaries({}, optional={"os": ANY_VALUE, "architecture": ANY_VALUE, "variant": ANY_VALUE})
ENTRY = st.fixed_dictionaries({}, optional={"digest": ANY_VALUE, "platform": ANY_VALUE | PLATFORM})
INDEX = st.fixed_dictionaries(
    {"schemaVersion": st.just(2) | ANY_VALUE},
    optional={"manifests": ANY_VALUE | st.lists(ANY_VALUE | ENTRY, max_size=3), "config": ANY_VALUE},
)


@given(INDEX)
@settings(deadline=None, max_examples=300)
def test_wrong_types_are_always_an_invalid_response(document: dict[str, Any]) -> None:
    with suppress(InvalidResponse):
        assert set(find_platform_digests(json.dumps(document).encode(), ["linux/amd64"]).values()) <= {A}


def test_error_about_many_platforms_is_short() -> None:
    raw = _index(*(_entry(A, f"system{number}" + "\u202ex" * 1000, "amd64") for number in range(1000)))

    with pytest.raises(InvalidResponse) as raised:
        find_platform_digests(raw, ["linux/amd64"])
    assert len(str(raised.value)) < 600
