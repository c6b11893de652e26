"""Manifests and indexes: which digest stands for which platform. Pure functions over the raw bytes."""

import hashlib
import json
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from daemon.registry.errors import BadAnswer
from portal.rules.references import is_digest

# All four, or a registry converts the manifest and answers a digest no engine will ever store.
MEDIA_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)

# Spelled out by most builders, implied by the rest.
_IMPLIED_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}


def digest_of(raw: bytes) -> str:
    """The digest of a manifest: the SHA-256 of exactly the bytes that were served."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


def platform_digests(raw: bytes, platforms: Collection[str]) -> dict[str, str]:
    """Find the manifest in an index that each platform's engines will run.

    Attestations (``unknown/unknown``) and platforms not asked for are left out, and a platform the image was
    not built for is missing from the result. A single manifest, which engines run wherever it is asked for,
    gives an empty result.

    Args:
        raw: The manifest or index as served.
        platforms: Such as ``linux/amd64`` or ``linux/arm/v7``.

    Raises:
        BadAnswer: if this is not a manifest that engines accept, or an index for none of the platforms.
    """
    document = _document(raw)
    entries = document.get("manifests")
    if entries is None:
        return {}
    if not isinstance(entries, list) or "layers" in document or "config" in document:
        raise BadAnswer("The registry answered a manifest that is neither an image nor an index.")
    offers = [offer for entry in entries if (offer := _offer(entry)) is not None]
    found = {platform: digest for platform in platforms if (digest := _best(offers, platform)) is not None}
    if platforms and not found:
        built_for = ", ".join(sorted({offer.system for offer in offers})) or "no platform"
        raise BadAnswer(f"The image was not built for {', '.join(sorted(platforms))}, only for {built_for}.")
    return found


class _Offer(NamedTuple):
    system: str  # "linux/arm64"
    variant: str
    digest: str


def _document(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadAnswer("The registry answered a manifest that is not JSON.") from error
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise BadAnswer("The registry answered a manifest of an unsupported schema; push the image again.")
    return document


def _offer(entry: object) -> _Offer | None:
    if not isinstance(entry, dict) or not is_digest(str(entry.get("digest"))):
        raise BadAnswer("The registry answered an index with an entry that has no digest.")
    platform = entry.get("platform")
    if not isinstance(platform, dict) or platform.get("os") in {None, "unknown"}:
        return None
    system, architecture = str(platform["os"]), str(platform.get("architecture"))
    return _Offer(f"{system}/{architecture}", _variant(architecture, platform.get("variant")), entry["digest"])


def _variant(architecture: str, variant: object) -> str:
    return str(variant or _IMPLIED_VARIANTS.get(architecture, ""))


def _best(offers: Iterable[_Offer], platform: str) -> str | None:
    """The manifest an engine of that platform picks: its own variant, else the first of its architecture."""
    system, architecture, *variant = platform.split("/", 2)
    wanted = _variant(architecture, variant[0] if variant else None)
    matching = [offer for offer in offers if offer.system == f"{system}/{architecture}"]
    exact = [offer for offer in matching if offer.variant == wanted]
    return next((offer.digest for offer in exact + matching), None)
