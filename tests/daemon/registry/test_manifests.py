import json
from typing import Any

import pytest

from daemon.registry.errors import BadAnswer
from daemon.registry.manifests import digest_of, platform_digests

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def _entry(digest: str, system: str, architecture: str, variant: str | None = None) -> dict[str, Any]:
    platform = {"os": system, "architecture": architecture} | ({"variant": variant} if variant else {})
    return {"digest": digest, "platform": platform}


def _index(*entries: Any, **more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(entries), **more}).encode()


def test_the_digest_is_the_hash_of_the_bytes() -> None:
    assert digest_of(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_single_manifest_needs_no_telling_apart() -> None:
    raw = json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode()

    assert platform_digests(raw, ["linux/amd64", "linux/arm64"]) == {}


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
def test_each_platform_finds_its_manifest(platform: str, digest: str) -> None:
    raw = _index(
        _entry(C, "unknown", "unknown"),
        _entry(A, "linux", "amd64"),
        _entry(B, "linux", "arm64", "v8"),
        _entry(A, "linux", "arm", "v6"),
        _entry(C, "linux", "arm", "v7"),
        {"digest": B},
    )

    assert platform_digests(raw, [platform]) == {platform: digest}


def test_a_platform_the_image_was_not_built_for_is_missing() -> None:
    raw = _index(_entry(A, "linux", "amd64"), _entry(C, "unknown", "unknown"))

    assert platform_digests(raw, ["linux/amd64", "linux/s390x", "unknown/unknown"]) == {"linux/amd64": A}
    assert platform_digests(raw, []) == {}
    with pytest.raises(BadAnswer, match="not built for linux/s390x, only for linux/amd64"):
        platform_digests(raw, ["linux/s390x"])


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
    ],
)
def test_what_no_engine_would_accept_is_a_bad_answer(raw: bytes) -> None:
    with pytest.raises(BadAnswer):
        platform_digests(raw, ["linux/amd64"])
