"""Names of containers that Flotilla creates: to which update they belong, and which the collector may remove."""

from __future__ import annotations

import pytest

from daemon.engine.labels import container_name, helper_name, is_helper, is_short_lived, update_id_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("flotilla-changelog-0a1b2c3d4e5f", True),
        ("flotilla-doctorabc123-probe", True),
        ("flotilla-doctorabc123-probe-f0", True),
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


def test_helpers_have_the_fence_of_their_worker_in_their_names() -> None:
    first, second = (helper_name("abc123", "snap-1", fence) for fence in (7, 8))
    assert first != second
    assert (update_id_of(first), is_helper(first)) == ("abc123", True)
    assert not is_helper(container_name("abc123", "old"))
