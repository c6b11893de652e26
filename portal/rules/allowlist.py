"""Which images the platform may run at all: the rule behind ``FLEET_IMAGE_ALLOWLIST``."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from portal.rules.references import InvalidReference, Reference, parse_reference, parse_registry


class ImageNotAllowed(Exception):
    """An image outside the allowlist; the message names the setting that would admit it."""


@dataclass(frozen=True, slots=True)
class Allowlist:
    """The repositories and registries whose images may run.

    An entry admits the repository it names and everything below it, compared at a ``/`` boundary on the
    normalized name: ``ghcr.io/acme`` admits ``ghcr.io/acme/bot`` but not ``ghcr.io/acme-evil/bot``. A bare
    registry admits all it holds. No entries admit nothing.
    """

    entries: tuple[str, ...]

    @classmethod
    def parse(cls, entries: Iterable[str]) -> Self:
        """Read the entries of the setting; blank ones and a trailing ``/`` are ignored.

        Raises:
            InvalidReference: for an entry that is neither a registry nor a repository.
        """
        stripped = (entry.strip().rstrip("/") for entry in entries)
        return cls(tuple(_normalized(entry) for entry in stripped if entry))

    def admits(self, reference: Reference) -> bool:
        """Whether images of that repository may run, whatever their tag or digest."""
        return any(f"{reference.name}/".startswith(f"{entry}/") for entry in self.entries)

    def require(self, reference: Reference) -> None:
        """Do nothing if the image is admitted.

        Raises:
            ImageNotAllowed: if it is not.
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
        raise InvalidReference(f"{entry!r} in the allowlist has a tag or digest; name only the repository.")
    return reference.name
