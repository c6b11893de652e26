"""Tests of the content of the reference images."""

import io
import json
import tarfile
from typing import Any

import docker
import pytest

from demo import versions
from tests.support.docker import RUN_LABEL
from tests.support.images import ReferenceImages

pytestmark = [pytest.mark.docker, pytest.mark.registry]

ARCHIVE_AND_RESTORE = """
set -e
mkdir /from /to
cd /from
printf 'with\\nnewline' > 'odd
name'
truncate -s 10M sparse
chown 3000000000:3000000000 sparse
touch -d '2001-02-03 04:05:06.789012345' sparse
ln -s sparse link
tar --format=posix --numeric-owner --xattrs --xattrs-include='*' --acls --sparse -cf /archive.tar .
cd /to
tar --numeric-owner --xattrs --xattrs-include='*' --acls --same-permissions -xf /archive.tar
tar --compare --file=/archive.tar
stat --format '%n %s %u %Y %y' sparse && readlink link
find . -mindepth 1 -delete
find . -mindepth 1 | wc -l
sha256sum /archive.tar | cut -d ' ' -f 1 | wc -c
"""


def read_from_image(engine: docker.APIClient, image: str, path: str) -> tarfile.TarFile:
    """Return a path of an image as an archive, read from a container that is never started."""
    container = engine.create_container(image)["Id"]
    try:
        chunks, _ = engine.get_archive(container, path)
        return tarfile.open(fileobj=io.BytesIO(b"".join(chunks)))
    finally:
        engine.remove_container(container, v=True)


def test_latest_changelog_links_to_a_dated_file(engine: docker.APIClient, reference_images: ReferenceImages) -> None:
    with read_from_image(engine, reference_images.reference(versions.SECOND), "/app/changelogs/latest.json") as tar:
        (link,) = tar.getmembers()
        assert (link.issym(), link.linkname) == (True, "2026-02-12.json")
    with read_from_image(engine, reference_images.reference(versions.SECOND), "/app/changelogs") as tar:
        dated = tar.extractfile("changelogs/2026-02-12.json")
        assert dated is not None
        assert json.load(dated) == {
            "version": "1.1.0",
            "date": "2026-02-12",
            "sections": [
                {"title": "New", "items": ["A page for your notes"]},
                {"title": "Fixed", "items": ["Long notes are no longer cut off"]},
            ],
        }


def test_image_without_changelog_has_no_changelog_folder(
    engine: docker.APIClient, reference_images: ReferenceImages
) -> None:
    with pytest.raises(docker.errors.NotFound):
        read_from_image(engine, reference_images.reference(versions.WITHOUT_CHANGELOG), "/app/changelogs")


def test_image_declares_port_volumes_and_label(
    engine: docker.APIClient, reference_images: ReferenceImages, run_labels: dict[str, str]
) -> None:
    image: dict[str, Any] = engine.inspect_image(reference_images.reference(versions.FIRST))  # type: ignore[no-untyped-call]
    configuration = image["Config"]
    assert set(configuration["Volumes"]) == {"/data", "/paperclip"}
    assert set(configuration["ExposedPorts"]) == {"3100/tcp"}
    assert configuration["Labels"][RUN_LABEL] == run_labels[RUN_LABEL]


def test_tag_points_at_the_release_published_last(
    engine: docker.APIClient, reference_images: ReferenceImages
) -> None:
    first = reference_images.publish(versions.FIRST, "moving")
    second = reference_images.publish(versions.SECOND, "moving")
    assert first != second
    pulled = engine.pull(reference_images.repository, tag="moving", stream=True, decode=True)
    assert any(event.get("status") == f"Digest: {second}" for event in pulled)
    assert reference_images.publish(versions.FIRST, "moving") == first


def test_helper_preserves_names_sizes_owners_times_and_links(engine: docker.APIClient, snapshot_image: str) -> None:
    container = engine.create_container(
        snapshot_image, ["/bin/sh", "-c", ARCHIVE_AND_RESTORE], network_disabled=True
    )["Id"]
    try:
        engine.start(container)
        status = engine.wait(container, timeout=60)["StatusCode"]
        output = engine.logs(container).decode()
    finally:
        engine.remove_container(container, force=True, v=True)
    assert (status, output) == (
        0,
        "sparse 10485760 3000000000 981173106 2001-02-03 04:05:06.789012345 +0000\nsparse\n0\n65\n",
    )
