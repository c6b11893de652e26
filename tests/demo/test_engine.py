"""The private engine keeps to itself and finds its images again."""

from pathlib import Path

import docker
import pytest

from demo.engine import running_engine
from tests.support.missing import part

pytestmark = pytest.mark.docker


def test_same_folder_has_the_same_images_again_and_the_bridge_goes(tmp_path: Path) -> None:
    with part(running_engine(tmp_path)) as url:
        client = docker.APIClient(base_url=url, version="auto")
        client.import_image_from_data(b"\0" * 1024, repository="kept", tag="1")
        client.close()
        # The engine's folder for sockets and its bridge have the same name.
        bridge = Path("/sys/class/net", Path(url).parent.name)
        assert bridge.exists()
    assert not bridge.exists()
    with running_engine(tmp_path) as url:
        client = docker.APIClient(base_url=url, version="auto")
        assert [image["RepoTags"] for image in client.images()] == [["kept:1"]]
        client.close()
