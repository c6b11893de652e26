"""The image allowlist, setting `FLEET_IMAGE_ALLOWLIST`. Used wherever an image enters: bots, releases, pulls."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from portal.rules.references import InvalidReference, Reference, parse_reference, parse_registry


class ImageNotAllowed(Exception):
    """The allowlist does not admit an image. The message names the setting."""


@dataclass(frozen=True, slots=True)
class Allowlist:
    """The repositories and registries whose images may run.

    An entry admits its repository and every repository below it. Normalized names are compared at a `/` boundary:
    `ghcr.io/acme` admits `ghcr.io/acme/bot` but not `ghcr.io/acme-evil/bot`. A registry admits all its repositories.
    An empty allowlist admits no image.
    """

    entries: tuple[str, ...]

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Self:
        """Parse the entries of the setting. Blank entries and a trailing `/` are ignored.

        Raises:
            InvalidReference: an entry is neither a registry nor a repository.
        """
        stripped = (entry.strip().rstrip("/") for entry in entries)
        return cls(tuple(_normalized(entry) for entry in stripped if entry))

    def admits(self, reference: Reference) -> bool:
        """Return whether images of this repository may run. Tag and digest do not matter."""
        return any(f"{reference.name}/".startswith(f"{entry}/") for entry in self.entries)

    def require(self, reference: Reference) -> None:
        """Check that images of this repository may run.

        Raises:
            ImageNotAllowed: the allowlist does not admit them.
        """
        if not self.admits(reference):
            raise ImageNotAllowed(
                f"{reference.name} may not run here: FLEET_IMAGE_ALLOWLIST admits"
                f" {', '.join(self.entries) or 'nothing'}. Add its registry or repository to that setting."
            )


def _normalized(entry: str) -> str:
    registry = parse_registry(entry)
    if registry is not None:
        return registry
    reference = parse_reference(entry)
    if reference.tag or reference.digest:
        raise InvalidReference(f"{entry!r} in the allowlist has a tag or digest. Enter the repository alone.")
    return reference.name
