"""Removes everything the demo made, and nothing else."""

from __future__ import annotations

import shutil

import docker

from demo.engine import existing_engine
from demo.home import LABEL, Home


def clean(home: Home) -> None:
    """Remove the demo's containers, volumes and images from an engine it was given, then its folder.

    An engine of the demo's own lives in that folder, so its data goes with it.
    """
    if (url := existing_engine()) is not None:
        engine = docker.APIClient(base_url=url, version="auto", timeout=120)
        _clean_engine(engine, f"{LABEL}={home.marker}")
        engine.close()
    shutil.rmtree(home.folder)


def _clean_engine(engine: docker.APIClient, label: str) -> None:
    filters = {"label": label}
    for container in engine.containers(all=True, filters=filters):
        engine.remove_container(container["Id"], force=True, v=True)
        print(f"  container {container['Names'][0].lstrip('/')} removed", flush=True)
    for volume in engine.volumes(filters=filters)["Volumes"] or []:
        engine.remove_volume(volume["Name"])
        print(f"  volume {volume['Name']} removed", flush=True)
    for image in engine.images(filters=filters, all=True):
        if image["RepoTags"] or image["RepoDigests"]:
            engine.remove_image(image["Id"], force=True)
            print(f"  image {(image['RepoTags'] or image['RepoDigests'])[0]} removed", flush=True)
