"""Reading the changelog out of an image, from a container that is created but never started. Used by its job."""

import io
import posixpath
import tarfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import docker
from docker.errors import NotFound, create_api_error_from_http_exception
from requests import HTTPError

from daemon.engine.client import limit_stream
from daemon.engine.labels import CHANGELOG_PREFIX
from daemon.registry.changelog_format import MAX_CHANGELOG_BYTES, InvalidChangelog, parse_changelog

CHANGELOG_PATH = "/app/changelogs/latest.json"

_FOLDER = posixpath.dirname(CHANGELOG_PATH)
_MAX_LINKS = 5
# Maximum size of headers, long names and padding of an archive with one file.
_MAX_TAR_OVERHEAD_BYTES = 32 * 1024


def read_changelog(engine: docker.APIClient, image: str, labels: Mapping[str, str]) -> dict[str, Any] | None:
    """Read the changelog from an image that the engine already has.

    The function creates a container, reads its file system and removes it without starting it. So the image needs no
    program for reading files, and its code does not run.

    Args:
        engine: the engine that has the image.
        image: the image as the engine knows it, usually `registry/repository@digest`.
        labels: labels of the container, by which the collector finds it if this process is killed.

    Returns:
        The result of `parse_changelog`, or None if the image has no changelog.

    Raises:
        InvalidChangelog: the changelog violates the format.
        docker.errors.DockerException: the engine refuses.
        EngineUnreachable: the engine does not answer completely in time.
    """
    container = engine.create_container(
        image,
        command=["never-started"],  # required for images without a command
        name=f"{CHANGELOG_PREFIX}{uuid.uuid4().hex[:12]}",
        labels=dict(labels),
        host_config=engine.create_host_config(network_mode="none"),
    )
    try:
        raw = _read_file(engine, container["Id"])
    finally:
        with suppress(NotFound):
            engine.remove_container(container["Id"], v=True, force=True)
    return None if raw is None else parse_changelog(raw)


def _read_file(engine: docker.APIClient, container_id: str) -> bytes | None:
    path = CHANGELOG_PATH
    for _ in range(_MAX_LINKS + 1):
        archive = _fetch_archive(engine, container_id, path)
        if archive is None:
            return None
        member, content = _read_only_member(archive)
        if not member.issym():
            return content
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
        if not path.startswith(f"{_FOLDER}/"):
            raise InvalidChangelog(f"{CHANGELOG_PATH} links to {path}, outside {_FOLDER}.")
    raise InvalidChangelog(f"{CHANGELOG_PATH} leads through more than {_MAX_LINKS} symbolic links.")


def _fetch_archive(engine: docker.APIClient, container_id: str, path: str) -> bytes | None:
    """Download the archive of a path, up to the maximum size of a changelog.

    The client's own method is not used because it cannot stop in the middle of a download: the connection stays open,
    and the engine does not remove the container until the download is complete.
    """
    url = f"{engine.base_url}/v{engine.api_version}/containers/{container_id}/archive"
    with (
        limit_stream(engine.timeout, "the download of the changelog"),
        engine.get(url, params={"path": path}, stream=True, timeout=engine.timeout) as response,
    ):
        if response.status_code == 404:
            return None
        try:
            response.raise_for_status()
        except HTTPError as error:
            create_api_error_from_http_exception(error)
        archive = bytearray()
        for chunk in response.iter_content(64 * 1024):
            archive += chunk
            if len(archive) > MAX_CHANGELOG_BYTES + _MAX_TAR_OVERHEAD_BYTES:
                raise InvalidChangelog(f"The changelog is longer than {MAX_CHANGELOG_BYTES // 1024} KB.")
        return bytes(archive)


def _read_only_member(archive: bytes) -> tuple[tarfile.TarInfo, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        member = members.next()
        if member is None or not (member.isfile() or member.issym()):
            raise InvalidChangelog(f"{CHANGELOG_PATH} is not a file.")
        content = members.extractfile(member) if member.isfile() else None
        return member, content.read() if content else b""
