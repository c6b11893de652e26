"""Tests of the private Docker engine."""

from pathlib import Path

import docker
import pytest

from demo.engine import running_engine
from tests.support.missing import required_service

pytestmark = pytest.mark.docker


def test_engine_keeps_its_images_and_removes_its_bridge(tmp_path: Path) -> None:
    with required_service(running_engine(tmp_path)) as url:
        client = docker.APIClient(base_url=url, version="auto")
        client.import_image_from_data(b"\0" * 1024, repository="kept", tag="1")
        client.close()
        # The bridge has the same name as the engine's folder of sockets.
        bridge = Path("/sys/class/net", Path(url).parent.name)
        assert bridge.exists()
    assert not bridge.exists()
    with running_engine(tmp_path) as url:
        client = docker.APIClient(base_url=url, version="auto")
        assert [image["RepoTags"] for image in client.images()] == [["kept:1"]]
        client.close()
