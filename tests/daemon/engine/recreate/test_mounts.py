"""Writable volumes and unprotected paths of a container."""

import docker
import pytest

from daemon.engine.recreate.mounts import Volume, unprotected_paths, writable_volumes
from tests.daemon.engine.recreate.containers import Containers
from tests.daemon.engine.recreate.full_container import Resources

pytestmark = pytest.mark.docker


def test_writable_volumes_are_named_and_anonymous_ones(
    containers: Containers, resources: Resources, old_image: dict[str, str]
) -> None:
    inspect = containers.inspect(containers.add_full_container(old_image["Id"], resources))

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
        Volume(resources.volume_in_binds, "/bound", anonymous=False),
        Volume(resources.volume_in_mounts, "/mounted", anonymous=False),
    } <= set(volumes)
    assert volumes == sorted(volumes, key=lambda volume: volume.name)


def test_volume_mounted_twice_is_listed_once(
    containers: Containers, resources: Resources, snapshot_image: str, engine: docker.APIClient
) -> None:
    binds = [f"{resources.volume_in_binds}:/here/", f"{resources.volume_in_binds}:/there:ro"]
    container = containers.add({"Image": snapshot_image, "Cmd": ["true"], "HostConfig": {"Binds": binds}})

    assert writable_volumes(containers.inspect(container)) == [
        Volume(resources.volume_in_binds, "/here", anonymous=False)
    ]


def test_writable_folders_of_the_node_are_unprotected(
    containers: Containers, resources: Resources, old_image: dict[str, str]
) -> None:
    inspect = containers.inspect(containers.add_full_container(old_image["Id"], resources))

    assert unprotected_paths(inspect) == ["/folder"]
