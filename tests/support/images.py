"""The reference images of a test run in its registry."""

from collections.abc import Mapping

import docker

from demo.images import BOT_REPOSITORY, build_base_image, build_reference_bot
from demo.versions import BotVersion


class ReferenceImages:
    """Publishes releases of the reference bot; each is built when a test first asks for it."""

    def __init__(self, engine: docker.APIClient, registry: str, labels: Mapping[str, str]) -> None:
        """Build with `engine`, push to `registry`, put `labels` on everything."""
        self._engine = engine
        self._registry = registry
        self._labels = labels
        self._digests: dict[str, str] = {}
        build_base_image(engine, labels)

    @property
    def repository(self) -> str:
        """Registry and repository, such as `127.0.0.1:45123/flotilla/reference-bot`."""
        return f"{self._registry}/{BOT_REPOSITORY}"

    def publish(self, version: BotVersion, tag: str) -> str:
        """Let `tag` point at this release and return its digest."""
        return build_reference_bot(self._engine, self._registry, version, tag, self._labels)

    def digest(self, version: BotVersion) -> str:
        """Return the digest of a release, published under its version as tag."""
        if version.version not in self._digests:
            self._digests[version.version] = self.publish(version, version.version)
        return self._digests[version.version]

    def reference(self, version: BotVersion) -> str:
        """Return `repository@digest` of a release."""
        return f"{self.repository}@{self.digest(version)}"
