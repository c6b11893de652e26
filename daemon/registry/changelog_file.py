"""Changelog files inside images: read one from an image and validate its format. Used by the changelog reader."""

import io
import posixpath
import re
import tarfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from typing import Any

import docker
from docker.errors import NotFound, create_api_error_from_http_exception
from requests import HTTPError

from daemon.engine.client import limit_stream
from daemon.engine.labels import CHANGELOG_PREFIX
from daemon.registry.documents import parse_object
from portal.rules.changelog_limits import (
    MAX_CHARACTERS,
    MAX_ITEM_LENGTH,
    MAX_ITEMS,
    MAX_SECTIONS,
    MAX_VERSION_LENGTH,
)
from portal.rules.outside_text import clean_line

CHANGELOG_PATH = "/app/changelogs/latest.json"
MAX_CHANGELOG_BYTES = 256 * 1024
SECTION_TITLES = ("New", "Improved", "Fixed")

_DATE = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}")
_FOLDER = posixpath.dirname(CHANGELOG_PATH)
_MAX_LINKS = 5
# Maximum size of headers, long names and padding of an archive with one file.
_MAX_TAR_OVERHEAD_BYTES = 32 * 1024


class InvalidChangelog(ValueError):
    """The changelog violates the format. The message tells the image's author what is wrong."""


def parse_changelog(raw: bytes) -> dict[str, Any]:
    """Parse and validate a changelog.

    Returns:
        `{"version": str, "date": "YYYY-MM-DD", "sections": [{"title": str, "items": [str]}]}`. Unknown keys and
        sections without items are left out.

    Raises:
        InvalidChangelog: a part is missing, has the wrong type or exceeds its limit, or the changelog is longer than
            256 KB.
    """
    if len(raw) > MAX_CHANGELOG_BYTES:
        raise InvalidChangelog(f"The changelog is longer than {MAX_CHANGELOG_BYTES // 1024} KB.")
    document = parse_object(raw, "utf-8-sig")
    if document is None:
        raise InvalidChangelog("The changelog is not a JSON object in UTF-8.")
    return {
        "version": _parse_text(document.get("version"), "a version", MAX_VERSION_LENGTH),
        "date": _parse_date(document.get("date")),
        "sections": _parse_sections(document.get("sections")),
    }


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


def _parse_sections(sections: object) -> list[dict[str, Any]]:
    if not isinstance(sections, list):
        raise InvalidChangelog("The changelog needs a list of sections.")
    if len(sections) > MAX_SECTIONS:
        raise InvalidChangelog(f"The changelog has more than {MAX_SECTIONS} sections.")
    parsed = [section for section in map(_parse_section, sections) if section["items"]]
    items = [item for section in parsed for item in section["items"]]
    if len(items) > MAX_ITEMS:
        raise InvalidChangelog(f"The changelog has more than {MAX_ITEMS} items.")
    if sum(map(len, items)) > MAX_CHARACTERS:
        raise InvalidChangelog(f"The items of the changelog have more than {MAX_CHARACTERS} characters.")
    return parsed


def _parse_section(section: object) -> dict[str, Any]:
    if not isinstance(section, dict) or section.get("title") not in SECTION_TITLES:
        raise InvalidChangelog(f"Each section of the changelog needs a title: {', '.join(SECTION_TITLES)}.")
    items = section.get("items")
    if not isinstance(items, list):
        raise InvalidChangelog(f"The section {section['title']} of the changelog needs a list of items.")
    return {
        "title": section["title"],
        "items": [_parse_text(item, "items that are texts", MAX_ITEM_LENGTH) for item in items],
    }


def _parse_text(value: object, what: str, limit: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidChangelog(f"The changelog needs {what}.")
    text = " ".join(value.split())
    if len(text) > limit:
        raise InvalidChangelog(f"The changelog needs {what}, of at most {limit} characters each.")
    if clean_line(text, limit) != text:
        raise InvalidChangelog("The changelog contains control characters.")
    return text


def _parse_date(value: object) -> str:
    # A year with four digits from 2000 on, because `fromisoformat` also accepts other formats and the year 1.
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise InvalidChangelog("The changelog needs a date such as 2026-01-31.")
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError as error:
        raise InvalidChangelog("The changelog needs a date such as 2026-01-31.") from error
