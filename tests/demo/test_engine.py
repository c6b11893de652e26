"""Tests of the private Docker engine."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import docker
import pytest

from demo.engine import running_engine
from demo.images import build_base_image
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


def test_engine_starts_again_after_it_was_killed_with_a_running_container(tmp_path: Path) -> None:
    with required_service(running_engine(tmp_path)) as url:
        client = docker.APIClient(base_url=url, version="auto")
        image = build_base_image(client, {})
        container = client.create_container(image, ["python", "-c", "import time; time.sleep(60)"])["Id"]
        client.start(container)
        client.close()
        os.kill(int(Path(url.removeprefix("unix://")).with_name("docker.pid").read_text()), signal.SIGKILL)
    with running_engine(tmp_path) as url:
        client = docker.APIClient(base_url=url, version="auto")
        client.remove_container(container, force=True)
        client.close()
    shutil.rmtree(tmp_path)  # which nothing uses any more
    # The process that watched the container outlives the killed engine.
    subprocess.run(["pkill", "--signal", "KILL", "--full", Path(url).parent.name], check=True)
