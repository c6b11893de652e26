"""What is captured of a container, and what is refused."""

import json
from typing import Any

import docker
import pytest

from daemon.engine.recreate.capture import CannotRecreate, capture
from tests.daemon.engine.recreate.containers import Containers
from tests.daemon.engine.recreate.everything import Surroundings, image_with

pytestmark = pytest.mark.docker


def test_a_capture_can_be_written_down(
    containers: Containers, around: Surroundings, old_image: dict[str, Any], engine: docker.APIClient
) -> None:
    """It goes into the database, and holds the container and its image."""
    container = containers.add_everything(old_image["Id"], around)

    saved = capture(engine, container)

    assert json.loads(json.dumps(saved)) == saved
    assert saved["container"]["Id"] == container
    assert saved["image"]["Id"] == old_image["Id"]


def test_containers_that_remove_themselves_are_refused(
    containers: Containers, old_image: dict[str, Any], engine: docker.APIClient
) -> None:
    """They are gone, and their anonymous volumes with them, as soon as they stop."""
    container = containers.add({"Image": old_image["Id"], "HostConfig": {"AutoRemove": True}})

    with pytest.raises(CannotRecreate, match="--rm"):
        capture(engine, container)


def test_a_container_whose_image_is_gone_is_refused(
    containers: Containers, snapshot_image: str, engine: docker.APIClient
) -> None:
    """Nobody could tell what was set by hand from what came from the image."""
    image = image_with(engine, snapshot_image, ["LABEL short.lived=yes"])
    container = containers.add({"Image": image["Id"], "Cmd": ["true"]})
    engine.remove_image(image["Id"], force=True)

    with pytest.raises(CannotRecreate, match="Pull the image again"):
        capture(engine, container)


def test_a_container_that_shares_with_a_removed_one_is_refused(
    containers: Containers, old_image: dict[str, Any], engine: docker.APIClient
) -> None:
    """It could not be started again either."""
    other = containers.add({"Image": old_image["Id"]})
    container = containers.add({"Image": old_image["Id"], "HostConfig": {"PidMode": f"container:{other}"}})
    engine.remove_container(other, v=True)

    with pytest.raises(CannotRecreate, match=other):
        capture(engine, container)
