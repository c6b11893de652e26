"""Which volumes are protected, and which paths are not."""

import docker
import pytest

from daemon.engine.recreate.mounts import Volume, unprotected_paths, writable_volumes
from tests.daemon.engine.recreate.containers import Containers
from tests.daemon.engine.recreate.everything import Surroundings

pytestmark = pytest.mark.docker


def test_named_and_anonymous_volumes_are_found(
    containers: Containers, around: Surroundings, old_image: dict[str, str]
) -> None:
    """However they were written down; volumes mounted read-only need no protection."""
    inspect = containers.inspect(containers.add_everything(old_image["Id"], around))

    volumes = writable_volumes(inspect)

    assert {volume.destination: volume.anonymous for volume in volumes} == {
        "/bound": False,
        "/mounted": False,
        "/unnamed": True,
        "/anonymous": True,
        "/declared": True,
        "/declared-old": True,
    }
    assert {
        Volume(around.bound, "/bound", anonymous=False),
        Volume(around.mounted, "/mounted", anonymous=False),
    } <= set(volumes)
    assert volumes == sorted(volumes, key=lambda volume: volume.name)


def test_a_volume_mounted_twice_is_protected_once(
    containers: Containers, around: Surroundings, snapshot_image: str, engine: docker.APIClient
) -> None:
    """Also when one of the two places is read-only."""
    binds = [f"{around.bound}:/here/", f"{around.bound}:/there:ro"]
    container = containers.add({"Image": snapshot_image, "Cmd": ["true"], "HostConfig": {"Binds": binds}})

    assert writable_volumes(containers.inspect(container)) == [Volume(around.bound, "/here", anonymous=False)]


def test_folders_of_the_node_are_unprotected(
    containers: Containers, around: Surroundings, old_image: dict[str, str]
) -> None:
    """Writable ones only; what lies in memory is no data."""
    inspect = containers.inspect(containers.add_everything(old_image["Id"], around))

    assert unprotected_paths(inspect) == ["/folder"]
