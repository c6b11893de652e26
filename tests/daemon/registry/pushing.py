"""Pushing of images without layers to a registry. Used by the tests of the registry client and the poller."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import requests

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


def compute_digest(raw: bytes) -> str:
    """Return the digest of a manifest, computed independently of the code under test."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


class Pusher:
    """Pushes images to one repository."""

    def __init__(self, address: str, repository: str, headers: Mapping[str, str] | None = None) -> None:
        """Set headers of every request, for example `Authorization`."""
        self._base = f"http://{address}/v2/{repository}"
        self._headers = dict(headers or {})

    def image(self, tag: str, seed: str, media_type: str = OCI_MANIFEST) -> str:
        """Push a single manifest and return its digest, which depends on `seed`."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "seed": seed}).encode()
        kind = "vnd.oci.image.config.v1" if media_type == OCI_MANIFEST else "vnd.docker.container.image.v1"
        described = {
            "mediaType": f"application/{kind}+json",
            "digest": self._blob(config),
            "size": len(config),
        }
        return self.manifest(tag, media_type, config=described, layers=[])

    def index(self, tag: str, entries: Mapping[str, str], media_type: str = OCI_INDEX, note: str = "") -> str:
        """Push an index of manifests by platform and return its digest, which depends on `note`."""
        manifests = [
            {
                "mediaType": OCI_MANIFEST if media_type == OCI_INDEX else DOCKER_MANIFEST,
                "digest": digest,
                "size": 2,
                "platform": dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False)),
            }
            for platform, digest in entries.items()
        ]
        return self.manifest(tag, media_type, manifests=manifests, annotations={"note": note})

    def manifest(self, tag: str, media_type: str, **parts: Any) -> str:
        """Push a manifest under a tag and return its digest."""
        raw = json.dumps({"schemaVersion": 2, "mediaType": media_type, **parts}).encode()
        self._send("PUT", f"{self._base}/manifests/{tag}", raw, media_type)
        return compute_digest(raw)

    def delete(self, digest: str) -> None:
        """Delete a manifest and the tags that point at it."""
        self._send("DELETE", f"{self._base}/manifests/{digest}")

    def _blob(self, raw: bytes) -> str:
        digest = compute_digest(raw)
        location = self._send("POST", f"{self._base}/blobs/uploads/").headers["Location"]
        separator = "&" if "?" in location else "?"
        self._send("PUT", f"{location}{separator}digest={digest}", raw, "application/octet-stream")
        return digest

    def _send(self, method: str, url: str, raw: bytes = b"", kind: str = "") -> requests.Response:
        headers = {**self._headers, **({"Content-Type": kind} if kind else {})}
        response = requests.request(method, url, data=raw, headers=headers, timeout=10)
        response.raise_for_status()
        return response
