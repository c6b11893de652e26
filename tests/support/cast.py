"""The users of the portal's tests. Used by tests of pages.

Alice owns Acme, Carol is an admin and Bob a member; Mallory has no organization, and Root is an operator.
"""

from collections.abc import Callable
from dataclasses import dataclass

from flask.testing import FlaskClient


@dataclass(frozen=True)
class Cast:
    """Ids of the users, by name, and of the organization Acme."""

    people: dict[str, str]
    org_id: str


SignedIn = Callable[[str], FlaskClient]
"""Returns the test client of a signed-in user, given by name."""
