"""Manifests and indexes of images: compute digests and find the digest of a platform. Used by the client."""

import hashlib
import json
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from daemon.registry.errors import InvalidResponse
from portal.rules.references import is_digest

# Without all four, a registry converts the manifest and returns a digest that no engine stores.
MEDIA_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)

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
        built_for = ", ".join(sorted({offer.system for offer in offers})) or "no platform"
        raise InvalidResponse(f"The image was not built for {', '.join(sorted(platforms))}, only for {built_for}.")
    return found


class _PlatformManifest(NamedTuple):
    system: str  # "linux/arm64"
    variant: str
    digest: str


def _parse_document(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidResponse("The registry returned a manifest that is not JSON.") from error
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise InvalidResponse("The registry returned a manifest of an unsupported schema; push the image again.")
    return document


def _parse_entry(entry: object) -> _PlatformManifest | None:
    if not isinstance(entry, dict) or not is_digest(str(entry.get("digest"))):
        raise InvalidResponse("The registry returned an index with an entry that has no digest.")
    platform = entry.get("platform")
    if not isinstance(platform, dict) or platform.get("os") in {None, "unknown"}:
        return None
    system, architecture = str(platform["os"]), str(platform.get("architecture"))
    return _PlatformManifest(
        f"{system}/{architecture}", _normalize_variant(architecture, platform.get("variant")), entry["digest"]
    )


def _normalize_variant(architecture: str, variant: object) -> str:
    return str(variant or _IMPLIED_VARIANTS.get(architecture, ""))


def _find_best(offers: Iterable[_PlatformManifest], platform: str) -> str | None:
    """Return the digest that engines of a platform choose: of their variant, or the first of their architecture."""
    system, architecture, *variant = platform.split("/", 2)
    wanted = _normalize_variant(architecture, variant[0] if variant else None)
    matching = [offer for offer in offers if offer.system == f"{system}/{architecture}"]
    exact = [offer for offer in matching if offer.variant == wanted]
    return next((offer.digest for offer in exact + matching), None)
