"""Names of containers that Flotilla creates: which of them the collector may remove by their age."""

from __future__ import annotations

import pytest

from daemon.engine.labels import is_short_lived


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("flotilla-changelog-0a1b2c3d4e5f", True),
        ("flotilla-doctorabc123-probe", True),
        ("flotilla-doctorabc123-old", False),  # the id of an update is random and may begin like this
        ("flotilla-doctorabc123-snap-1", False),
        ("flotilla-doctor-probe", False),
        ("flotilla-abc123-probe", False),
        ("my-flotilla-changelog-0a1b2c", False),
        ("flotilla-changelog-database-1", False),
    ],
)
def test_short_lived_containers_are_known_by_their_exact_name(name: str, expected: bool) -> None:
    assert is_short_lived(name) is expected
