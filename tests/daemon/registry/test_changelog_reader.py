"""Changelog files: validation, and reading them from images without starting a container."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import uuid4

import docker
import pytest
from docker.errors import ImageNotFound

from daemon.registry.changelog_format import MAX_CHANGELOG_BYTES, InvalidChangelog, parse_changelog
from daemon.registry.changelog_reader import read_changelog

CHANGELOG: dict[str, Any] = {
    "version": "1.2.0",
    "date": "2026-02-28",
    "sections": [
        {"title": "New", "items": ["Voice messages", "Grüße 👩‍🚀"]},
        {"title": "Fixed", "items": ["Search finds umlauts"]},
    ],
}
RAW = json.dumps(CHANGELOG).encode()
FOLDER = "app/changelogs"
LATEST = f"{FOLDER}/latest.json"

Build = Callable[..., str]


class TestParsing:
    def test_valid_changelog_is_returned_unchanged(self) -> None:
        assert parse_changelog(RAW) == CHANGELOG

    def test_unknown_keys_and_empty_sections_are_left_out(self) -> None:
        more = {
            **CHANGELOG,
            "author": "x",
            "sections": [*CHANGELOG["sections"], {"title": "Improved", "items": []}],
        }

        assert parse_changelog(b"\xef\xbb\xbf" + json.dumps(more).encode()) == CHANGELOG

    def test_whitespace_is_normalized(self) -> None:
        text = {**CHANGELOG, "sections": [{"title": "New", "items": ["  One\n   line\t"]}]}

        assert parse_changelog(json.dumps(text).encode())["sections"] == [{"title": "New", "items": ["One line"]}]

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"version": None}, "needs a version"),
            ({"version": " "}, "needs a version"),
            ({"version": 1.2}, "needs a version"),
            ({"date": "yesterday"}, "needs a date"),
            ({"date": None}, "needs a date"),
            ({"sections": None}, "needs a list of sections"),
            ({"sections": {}}, "needs a list of sections"),
            ({"sections": ["New"]}, "needs a title"),
            ({"sections": [{"title": "Other", "items": []}]}, "needs a title: New, Improved, Fixed"),
            ({"sections": [{"title": ["New"], "items": []}]}, "needs a title"),
            ({"sections": [{"title": "New"}]}, "New of the changelog needs a list of items"),
            ({"sections": [{"title": "New", "items": [{"text": "x"}]}]}, "items that are texts"),
            ({"version": "1\0"}, "control characters"),
            ({"version": "\ud800"}, "control characters"),
            ({"version": "1.0\u202e"}, "control characters"),
            ({"version": "1" * 51}, "a version, of at most 50 characters"),
            ({"date": "20260131"}, "needs a date"),
            ({"date": "2026-W05-6"}, "needs a date"),
            ({"date": "0001-01-01"}, "needs a date"),
            ({"date": "2026-02-30"}, "needs a date"),
            ({"date": 20260131}, "needs a date"),
            ({"sections": [{"title": "New", "items": ["x"]}] * 11}, "more than 10 sections"),
            ({"sections": [{"title": "New", "items": ["x"] * 51}] * 2}, "more than 100 items"),
            ({"sections": [{"title": "New", "items": ["x" * 501]}]}, "at most 500 characters"),
            ({"sections": [{"title": "New", "items": ["x" * 500] * 41}]}, "more than 20000 characters"),
        ],
    )
    def test_error_names_the_invalid_part(self, change: dict[str, Any], complaint: str) -> None:
        with pytest.raises(InvalidChangelog, match=complaint):
            parse_changelog(json.dumps({**CHANGELOG, **change}).encode())

    @pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b"[" * 100_000, b"New: everything"])
    def test_content_other_than_a_json_object_is_refused(self, raw: bytes) -> None:
        with pytest.raises(InvalidChangelog):
            parse_changelog(raw)

    def test_changelog_at_the_limits_is_valid(self) -> None:
        sections = [{"title": "Fixed", "items": ["x" * 200] * 10}] * 10
        largest = {"version": "1" * 50, "date": "2999-12-31", "sections": sections}

        assert parse_changelog(json.dumps(largest).encode()) == largest

    def test_too_long_changelog_is_refused(self) -> None:
        parse_changelog(RAW.ljust(MAX_CHANGELOG_BYTES))
        with pytest.raises(InvalidChangelog, match="longer than 256 KB"):
            parse_changelog(RAW.ljust(MAX_CHANGELOG_BYTES + 1))


@pytest.mark.docker
class TestReading:
    @pytest.fixture
    def build(self, engine: docker.APIClient, run_labels: dict[str, str]) -> Iterator[Build]:
        """Return a function that builds images from files and links; they are removed after the test."""
        built: list[str] = []

        def build(files: Mapping[str, bytes | str], *changes: str) -> str:
            archive = io.BytesIO()
            with tarfile.open(fileobj=archive, mode="w") as tar:
                for path, content in files.items():
                    _add(tar, path, content)
            labels = [f"LABEL {key}={value}" for key, value in run_labels.items()]
            name = f"flotilla-test/changelog-{uuid4().hex[:8]}"
            engine.import_image_from_data(archive.getvalue(), repository=name, tag="1", changes=[*labels, *changes])
            built.append(f"{name}:1")
            return built[-1]

        yield build
        for image in built:
            engine.remove_image(image)

    @pytest.fixture
    def read(self, engine: docker.APIClient) -> Iterator[Callable[[str], dict[str, Any] | None]]:
        """Return a function that reads changelogs; check after the test that no container or volume is left."""
        label = uuid4().hex
        volumes = {volume["Name"] for volume in engine.volumes()["Volumes"] or []}
        yield lambda image: read_changelog(engine, image, {"flotilla.install": label})
        assert engine.containers(all=True, filters={"label": f"flotilla.install={label}"}) == []
        assert {volume["Name"] for volume in engine.volumes()["Volumes"] or []} == volumes

    @pytest.mark.parametrize(
        "changes",
        [[], ['ENTRYPOINT ["/bin/does-not-exist"]', "VOLUME /data"], ['CMD ["/bin/does-not-exist"]', "USER 1234"]],
    )
    def test_changelog_is_read_from_images_that_cannot_start(
        self, build: Build, read: Callable[[str], Any], changes: list[str]
    ) -> None:
        assert read(build({LATEST: RAW}, *changes)) == CHANGELOG

    @pytest.mark.parametrize("files", [{"etc/motd": b"hello"}, {f"{FOLDER}/1.0.0.json": RAW}])
    def test_image_without_changelog_returns_none(
        self, build: Build, read: Callable[[str], Any], files: dict[str, bytes]
    ) -> None:
        assert read(build(files)) is None

    @pytest.mark.parametrize(
        "links",
        [
            {LATEST: "1.2.0.json", f"{FOLDER}/1.2.0.json": RAW},
            {LATEST: "/app/changelogs/1.2.0.json", f"{FOLDER}/1.2.0.json": RAW},
            {LATEST: "./old/../2026/x.json", f"{FOLDER}/2026/x.json": RAW},
            {LATEST: "2026/x.json", f"{FOLDER}/2026/x.json": "../y.json", f"{FOLDER}/y.json": RAW},
            {
                LATEST: "1",
                **{f"{FOLDER}/{hop}": str(hop + 1) for hop in range(1, 5)},
                f"{FOLDER}/5": RAW,
            },
        ],
    )
    def test_symbolic_links_within_the_folder_are_followed(
        self, build: Build, read: Callable[[str], Any], links: dict[str, bytes | str]
    ) -> None:
        assert read(build(links)) == CHANGELOG

    @pytest.mark.parametrize(
        ("links", "complaint"),
        [
            ({LATEST: "../../etc/secret.json", "etc/secret.json": RAW}, "outside /app/changelogs"),
            ({LATEST: "/etc/secret.json", "etc/secret.json": RAW}, "outside /app/changelogs"),
            ({LATEST: "../changelogs-other/x", "app/changelogs-other/x": RAW}, "outside /app/changelogs"),
            (
                {
                    LATEST: "1",
                    **{f"{FOLDER}/{hop}": str(hop + 1) for hop in range(1, 6)},
                    f"{FOLDER}/6": RAW,
                },
                "more than 5 symbolic links",
            ),
            ({LATEST: RAW.ljust(MAX_CHANGELOG_BYTES + 1)}, "longer than 256 KB"),
            ({LATEST: b" " * 50_000_000}, "longer than 256 KB"),
            ({f"{LATEST}/x": RAW}, "is not a file"),
            ({LATEST: b"{}"}, "needs a version"),
        ],
    )
    def test_other_links_and_files_are_refused(
        self,
        build: Build,
        read: Callable[[str], Any],
        links: dict[str, bytes | str],
        complaint: str,
    ) -> None:
        with pytest.raises(InvalidChangelog, match=complaint):
            read(build(links))

    def test_broken_link_returns_none(self, build: Build, read: Callable[[str], Any]) -> None:
        assert read(build({LATEST: "gone.json"})) is None

    def test_missing_image_raises_image_not_found(self, read: Callable[[str], Any]) -> None:
        with pytest.raises(ImageNotFound):
            read("flotilla-test/never-built:1")


def _add(tar: tarfile.TarFile, path: str, content: bytes | str) -> None:
    member = tarfile.TarInfo(path)
    if isinstance(content, str):
        member.type, member.linkname = tarfile.SYMTYPE, content
        tar.addfile(member)
    else:
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
