"""Manifests and indexes of images: compute digests and find the digest of a platform. Used by the client."""

import hashlib
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from daemon.registry.documents import parse_object
from daemon.registry.errors import InvalidResponse
from portal.rules.outside_text import clean_line
from portal.rules.references import is_digest

# Without all four, a registry converts the manifest and returns a digest that no engine stores.
MEDIA_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)

_PLATFORM_FIELDS = ("os", "architecture", "variant")
# How many platforms of an index an error names, and the length of each.
_MAX_NAMED = 10
_MAX_NAMED_LENGTH = 40

# Variants that an index may leave out.
_IMPLIED_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}


def compute_digest(raw: bytes) -> str:
    """Return the digest of a manifest: the SHA-256 of the bytes as served."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def find_platform_digests(raw: bytes, platforms: Collection[str]) -> dict[str, str]:
    """Find the manifest that engines of each platform run.

    Args:
        raw: the manifest or index as served.
        platforms: for example `linux/amd64` or `linux/arm/v7`.

    Returns:
        The digest by platform. Attestations (`unknown/unknown`) are ignored, and platforms for which the image was
        not built are missing. The result for a single manifest is empty, because engines run it on any platform.

    Raises:
        InvalidResponse: `raw` is not a manifest that engines accept, or an index for none of the platforms.
    """
    document = _parse_document(raw)
    entries = document.get("manifests")
    if entries is None:
        return {}
    if not isinstance(entries, list) or "layers" in document or "config" in document:
        raise InvalidResponse("The registry returned a manifest that is neither an image nor an index.")
    offers = [offer for entry in entries if (offer := _parse_entry(entry)) is not None]
    found = {platform: digest for platform in platforms if (digest := _find_best(offers, platform)) is not None}
    if platforms and not found:
        systems = sorted({clean_line(offer.system, _MAX_NAMED_LENGTH) for offer in offers})[:_MAX_NAMED]
        built_for = ", ".join(systems) or "no platform"
        raise InvalidResponse(f"The image was not built for {', '.join(sorted(platforms))}, only for {built_for}.")
    return found


class _PlatformManifest(NamedTuple):
    system: str  # "linux/arm64"
    variant: str
    digest: str


def _parse_document(raw: bytes) -> dict[str, Any]:
    document = parse_object(raw)
    if document is None:
        raise InvalidResponse("The registry returned a manifest that is not a JSON object.")
    if document.get("schemaVersion") != 2:
        raise InvalidResponse("The registry returned a manifest of an unsupported schema; push the image again.")
    return document


def _parse_entry(entry: object) -> _PlatformManifest | None:
    digest = entry.get("digest") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(digest, str) or not is_digest(digest):
        raise InvalidResponse("The registry returned an index with an entry that has no digest.")
    platform = entry.get("platform") or {}
    fields = [platform.get(name) or "" for name in _PLATFORM_FIELDS] if isinstance(platform, dict) else []
    if not fields or not all(isinstance(field, str) for field in fields):
        raise InvalidResponse("The registry returned an index with an entry whose platform is invalid.")
    system, architecture, variant = fields
    if system in {"", "unknown"}:
        return None
    return _PlatformManifest(f"{system}/{architecture}", _normalize_variant(architecture, variant), digest)


def _normalize_variant(architecture: str, variant: str) -> str:
    return variant or _IMPLIED_VARIANTS.get(architecture, "")


def _find_best(offers: Iterable[_PlatformManifest], platform: str) -> str | None:
    """Return the digest that engines of a platform choose: of their variant, or the first of their architecture."""
    system, architecture, *variant = platform.split("/", 2)
    wanted = _normalize_variant(architecture, variant[0] if variant else "")
    matching = [offer for offer in offers if offer.system == f"{system}/{architecture}"]
    exact = [offer for offer in matching if offer.variant == wanted]
    return next((offer.digest for offer in exact + matching), None)
