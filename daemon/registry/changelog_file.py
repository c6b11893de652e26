"""The changelog that a release carries inside its image: how it is read, and what shape it must have."""

import io
import json
import posixpath
import tarfile
import unicodedata
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from typing import Any

import docker
from docker.errors import NotFound, create_api_error_from_http_exception
from requests import HTTPError

from daemon.engine.labels import CHANGELOG_PREFIX

CHANGELOG_PATH = "/app/changelogs/latest.json"
CHANGELOG_LIMIT = 256 * 1024
SECTION_TITLES = ("New", "Improved", "Fixed")

_FOLDER = posixpath.dirname(CHANGELOG_PATH)
_MAX_HOPS = 5
# Headers, long names and padding of an archive that holds one file.
_TAR_OVERHEAD = 32 * 1024


class InvalidChangelog(ValueError):
    """A changelog that does not keep the contract; the message tells the image's author what is wrong."""


def parse_changelog(raw: bytes) -> dict[str, Any]:
    """Check a changelog and keep what the contract names.

    Returns:
        ``{"version": str, "date": "YYYY-MM-DD", "sections": [{"title": str, "items": [str]}]}``. Keys nobody
        knows and sections without items are left out.

    Raises:
        InvalidChangelog: if a part is missing or of the wrong kind, or if it is longer than 256 KB.
    """
    if len(raw) > CHANGELOG_LIMIT:
        raise InvalidChangelog(f"The changelog is longer than {CHANGELOG_LIMIT // 1024} KB.")
    try:
        document = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidChangelog("The changelog is not JSON in UTF-8.") from error
    if not isinstance(document, dict):
        raise InvalidChangelog("The changelog must be a JSON object.")
    sections = document.get("sections")
    if not isinstance(sections, list):
        raise InvalidChangelog("The changelog needs a list of sections.")
    return {
        "version": _text(document.get("version"), "a version"),
        "date": _date(document.get("date")),
        "sections": [section for section in map(_section, sections) if section["items"]],
    }


def read_changelog(engine: docker.APIClient, image: str, labels: Mapping[str, str]) -> dict[str, Any] | None:
    """Read the changelog out of an image that the engine already has.

    A container is created for its file system, never started, and removed again: running a program of the
    image would ask for one that is there, and would trust it.

    Args:
        engine: The engine that holds the image.
        image: As the engine knows it, usually ``registry/repository@digest``.
        labels: Mark the container as ours, so that one left behind by a killed process is collected.

    Returns:
        What `parse_changelog` returns, or None if the image has no such file.

    Raises:
        InvalidChangelog: if the file is there and breaks the contract.
        docker.errors.DockerException: if the engine refuses or does not answer.
    """
    container = engine.create_container(
        image,
        command=["never-started"],  # an image without one of its own could not be created otherwise
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
    for _ in range(_MAX_HOPS + 1):
        archive = _archive(engine, container_id, path)
        if archive is None:
            return None
        member, content = _only_member(archive)
        if not member.issym():
            return content
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
        if not path.startswith(f"{_FOLDER}/"):
            raise InvalidChangelog(f"{CHANGELOG_PATH} links to {path}, outside {_FOLDER}.")
    raise InvalidChangelog(f"{CHANGELOG_PATH} leads through more than {_MAX_HOPS} links.")


def _archive(engine: docker.APIClient, container_id: str, path: str) -> bytes | None:
    """Ask for the archive of a path, but for no more of it than a changelog may be long.

    The client's own method cannot be stopped half-way: it leaves the connection open, and the engine then
    waits for us to read on before it lets anybody remove the container.
    """
    url = f"{engine.base_url}/v{engine.api_version}/containers/{container_id}/archive"
    with engine.get(url, params={"path": path}, stream=True, timeout=engine.timeout) as response:
        if response.status_code == 404:
            return None
        try:
            response.raise_for_status()
        except HTTPError as error:
            create_api_error_from_http_exception(error)
        archive = bytearray()
        for chunk in response.iter_content(64 * 1024):
            archive += chunk
            if len(archive) > CHANGELOG_LIMIT + _TAR_OVERHEAD:
                raise InvalidChangelog(f"The changelog is longer than {CHANGELOG_LIMIT // 1024} KB.")
        return bytes(archive)


def _only_member(archive: bytes) -> tuple[tarfile.TarInfo, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        member = members.next()
        if member is None or not (member.isfile() or member.issym()):
            raise InvalidChangelog(f"{CHANGELOG_PATH} is not a file.")
        content = members.extractfile(member) if member.isfile() else None
        return member, content.read() if content else b""


def _section(section: object) -> dict[str, Any]:
    if not isinstance(section, dict) or section.get("title") not in SECTION_TITLES:
        raise InvalidChangelog(f"Each section of the changelog needs a title: {', '.join(SECTION_TITLES)}.")
    items = section.get("items")
    if not isinstance(items, list):
        raise InvalidChangelog(f"The section {section['title']} of the changelog needs a list of items.")
    return {"title": section["title"], "items": [_text(item, "items that are texts") for item in items]}


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidChangelog(f"The changelog needs {what}.")
    text = " ".join(value.split())
    # Neither can be stored everywhere: PostgreSQL refuses NUL, UTF-8 half a surrogate pair.
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        raise InvalidChangelog("The changelog holds control characters.")
    return text


def _date(value: object) -> str:
    try:
        return date.fromisoformat(str(value)).isoformat()
    except ValueError as error:
        raise InvalidChangelog("The changelog needs a date such as 2026-01-31.") from error
