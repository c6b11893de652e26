"""The cast of the portal's tests: alice owns Acme, carol is admin there, bob member; mallory is an outsider."""

from collections.abc import Callable
from dataclasses import dataclass

from flask.testing import FlaskClient


@dataclass(frozen=True)
class Cast:
    """Ids of the people, by name, and of their organization."""

    people: dict[str, str]
    org_id: str


SignedIn = Callable[[str], FlaskClient]
"""Makes a browser that is signed in as one of the cast, by name."""
