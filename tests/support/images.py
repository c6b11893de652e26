"""The images of the reference bot. Used by the fixture `reference_images`."""

from collections.abc import Mapping

import docker

from demo.images import BOT_REPOSITORY, build_base_image, build_reference_bot
from demo.versions import BotVersion


class ReferenceImages:
    """Builds and pushes releases of the reference bot on first use."""

    def __init__(self, engine: docker.APIClient, registry: str, labels: Mapping[str, str]) -> None:
        """Set the engine that builds, the registry to push to, and the labels of all images."""
        self._engine = engine
        self._registry = registry
        self._labels = labels
        self._digests: dict[str, str] = {}
        build_base_image(engine, labels)

    @property
    def repository(self) -> str:
        """Registry and repository, for example `127.0.0.1:45123/flotilla/reference-bot`."""
        return f"{self._registry}/{BOT_REPOSITORY}"

    def publish(self, version: BotVersion, tag: str) -> str:
        """Push a release with a tag and return its digest."""
        return build_reference_bot(self._engine, self._registry, version, tag, self._labels)

    def digest(self, version: BotVersion) -> str:
        """Return the digest of a release, which is pushed with its version as tag."""
        if version.version not in self._digests:
            self._digests[version.version] = self.publish(version, version.version)
        return self._digests[version.version]

    def reference(self, version: BotVersion) -> str:
        """Return `repository@digest` of a release."""
        return f"{self.repository}@{self.digest(version)}"
