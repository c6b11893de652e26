"""The cast of the portal's tests, as `tests/views` has it, for everything about teams."""

from tests.views.conftest import Cast, SignedIn, app, cast, scene, signed_in, stranger

__all__ = ["Cast", "SignedIn", "app", "cast", "scene", "signed_in", "stranger"]
