"""Removal of a demo's containers, volumes, images and folder. Used by `python -m demo clean`."""

from __future__ import annotations

import shutil

import docker

from daemon.engine.client import Engine
from demo.config import LABEL, DemoConfig
from demo.engine import existing_engine


def remove_demo(config: DemoConfig) -> None:
    """Remove everything with the demo's label from the machine's Docker engine, then remove the demo's folder.

    The data of a private engine is inside that folder, so it is removed as well.
    """
    if (url := existing_engine()) is not None:
        engine = Engine(base_url=url, version="auto", timeout=120)
        _remove_labelled(engine, f"{LABEL}={config.marker}")
        engine.close()
    shutil.rmtree(config.folder)


def _remove_labelled(engine: docker.APIClient, label: str) -> None:
    filters = {"label": label}
    # Volumes of bots from the template do not have the demo's label, but the labelled containers mount them.
    mounted = set()
    for container in engine.containers(all=True, filters=filters):
        mounted |= {mount["Name"] for mount in container["Mounts"] if mount["Type"] == "volume"}
        engine.remove_container(container["Id"], force=True, v=True)
        print(f"  container {container['Names'][0].lstrip('/')} removed", flush=True)
    labelled = {volume["Name"] for volume in engine.volumes(filters=filters)["Volumes"] or []}
    existing = {volume["Name"] for volume in engine.volumes()["Volumes"] or []}
    for volume in sorted((labelled | mounted) & existing):
        engine.remove_volume(volume)
        print(f"  volume {volume} removed", flush=True)
    for image in engine.images(filters=filters, all=True):
        if image["RepoTags"] or image["RepoDigests"]:
            engine.remove_image(image["Id"], force=True)
            print(f"  image {(image['RepoTags'] or image['RepoDigests'])[0]} removed", flush=True)
