"""Captures of containers, and containers that cannot be captured."""

import json
from typing import Any

import docker
import pytest

from daemon.engine.recreate.capture import CannotRecreate, capture
from tests.daemon.engine.recreate.containers import Containers
from tests.daemon.engine.recreate.full_container import Resources, build_image

pytestmark = pytest.mark.docker


def test_capture_of_container_and_image_can_be_stored_as_json(
    containers: Containers, resources: Resources, old_image: dict[str, Any], engine: docker.APIClient
) -> None:
    container = containers.add_full_container(old_image["Id"], resources)

    saved = capture(engine, container)

    assert json.loads(json.dumps(saved)) == saved
    assert saved["container"]["Id"] == container
    assert saved["image"]["Id"] == old_image["Id"]


def test_container_started_with_rm_is_refused(
    containers: Containers, old_image: dict[str, Any], engine: docker.APIClient
) -> None:
    container = containers.add({"Image": old_image["Id"], "HostConfig": {"AutoRemove": True}})

    with pytest.raises(CannotRecreate, match="--rm"):
        capture(engine, container)


def test_container_whose_image_is_gone_is_refused(
    containers: Containers, snapshot_image: str, engine: docker.APIClient
) -> None:
    image = build_image(engine, snapshot_image, ["LABEL short.lived=yes"])
    container = containers.add({"Image": image["Id"], "Cmd": ["true"]})
    engine.remove_image(image["Id"], force=True)

    with pytest.raises(CannotRecreate, match="Pull the image again"):
        capture(engine, container)


def test_container_that_shares_a_namespace_with_a_removed_one_is_refused(
    containers: Containers, old_image: dict[str, Any], engine: docker.APIClient
) -> None:
    other = containers.add({"Image": old_image["Id"]})
    container = containers.add({"Image": old_image["Id"], "HostConfig": {"PidMode": f"container:{other}"}})
    engine.remove_container(other, v=True)

    with pytest.raises(CannotRecreate, match=other):
        capture(engine, container)
