"""Helpers for tests that adopt and attach containers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from daemon.bots.adopt import adopt
from daemon.bots.inspection import Adoption, AdoptOptions
from tests.support.site import Site

Start = Callable[..., str]


def adopt_container(site: Site, container: str, options: AdoptOptions | None = None, **arguments: Any) -> Adoption:
    """Adopt a container on the node `here`, by default for the organization `acme`."""
    where = {"node": "here", "org": "acme"} | arguments
    return adopt(site.database, site.settings, container, **where, options=options)


def describe(site: Site, container: str) -> dict[str, Any]:
    """Return the engine's description of a container, with its mounts in a fixed order."""
    found: dict[str, Any] = site.engine.inspect_container(container)
    return found | {"Mounts": sorted(found["Mounts"], key=lambda mount: mount["Destination"])}
