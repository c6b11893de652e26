"""Builds the reference images on an engine and pushes them, without any public registry.

Everything is labelled, and containers inherit the labels of their image, so cleaning up finds all of it.
"""

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import docker

from demo.processes import MissingRequirement
from demo.rootfs import write_helper, write_python
from demo.versions import BotVersion

BASE_REPOSITORY = "flotilla/reference-base"
BOT_REPOSITORY = "flotilla/reference-bot"
HELPER_REPOSITORY = "flotilla/snapshot-helper"
BOT_SOURCE = Path(__file__).parent / "reference_bot"

BOT_CONFIGURATION = (
    "ENV PATH=/usr/local/bin:/bin",
    "WORKDIR /app",
    "VOLUME /data",
    "VOLUME /paperclip",
    "EXPOSE 3100",
    'CMD ["/usr/local/bin/python", "-m", "reference_bot"]',
)


def build_base_image(engine: docker.APIClient, labels: Mapping[str, str]) -> str:
    """Make the image all reference bots are built from: the running Python and a shell.

    Returns:
        Its name on this engine; it is not pushed.
    """
    return _import(engine, f"{BASE_REPOSITORY}:latest", write_python, labels)


def build_helper_image(engine: docker.APIClient, registry: str, labels: Mapping[str, str]) -> str:
    """Make and push the image that takes and restores snapshots: a shell, GNU tar, findutils, coreutils.

    Args:
        engine: where to build.
        registry: host and port to push to.
        labels: put on the image.

    Returns:
        Its reference, fit for the setting `SNAPSHOT_IMAGE`.

    Raises:
        MachineError: building or pushing failed.
    """
    reference = _import(engine, f"{registry}/{HELPER_REPOSITORY}:1", write_helper, labels)
    _push(engine, reference)
    return reference


def build_reference_bot(
    engine: docker.APIClient, registry: str, version: BotVersion, tag: str, labels: Mapping[str, str]
) -> str:
    """Make one release of the reference bot and push it as `<registry>/flotilla/reference-bot:<tag>`.

    The base image must be there, see `build_base_image`.

    Args:
        engine: where to build.
        registry: host and port to push to.
        version: the release.
        tag: name of the release in the registry; pushing it again moves the tag.
        labels: put on the image.

    Returns:
        The digest under which the registry keeps it.

    Raises:
        MachineError: building or pushing failed.
    """
    reference = f"{registry}/{BOT_REPOSITORY}:{tag}"
    output = engine.build(
        fileobj=_build_context(version),
        custom_context=True,
        tag=reference,
        labels=dict(labels),
        rm=True,
        forcerm=True,
        decode=True,
    )
    _read_stream(output, f"building {reference}")
    return _push(engine, reference)


def _import(
    engine: docker.APIClient, reference: str, write: Callable[[IO[bytes]], None], labels: Mapping[str, str]
) -> str:
    repository, tag = reference.rsplit(":", 1)
    with tempfile.TemporaryFile() as archive:
        write(archive)
        archive.seek(0)
        answer = engine.import_image_from_data(
            archive,
            repository=repository,
            tag=tag,
            changes=[f"LABEL {json.dumps(key)}={json.dumps(value)}" for key, value in labels.items()],
        )
    _read_stream((json.loads(line) for line in answer.splitlines()), f"importing {reference}")
    return reference


def _build_context(version: BotVersion) -> IO[bytes]:
    dockerfile = "\n".join((f"FROM {BASE_REPOSITORY}:latest", *BOT_CONFIGURATION, "COPY app /app"))
    identity = {
        "version": version.version,
        "behaviour": version.behaviour,
        "start_seconds": version.start_seconds,
    }
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        _add(tar, "Dockerfile", dockerfile)
        _add(tar, "app/behaviour.json", json.dumps(identity))
        for source in sorted(BOT_SOURCE.glob("*.py")):
            _add(tar, f"app/reference_bot/{source.name}", source.read_text())
        if (changelog := version.changelog()) is not None:
            _add(tar, f"app/changelogs/{version.date}.json", json.dumps(changelog, indent=2))
            latest = tarfile.TarInfo("app/changelogs/latest.json")
            latest.type, latest.linkname = tarfile.SYMTYPE, f"{version.date}.json"
            tar.addfile(latest)
    context.seek(0)
    return context


def _add(tar: tarfile.TarFile, path: str, text: str) -> None:
    content = text.encode()
    member = tarfile.TarInfo(path)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _push(engine: docker.APIClient, reference: str) -> str:
    events = _read_stream(engine.push(reference, stream=True, decode=True), f"pushing {reference}")
    digests = [event["aux"]["Digest"] for event in events if "Digest" in event.get("aux", {})]
    if not digests:
        raise MissingRequirement(f"pushing {reference}: the engine told no digest")
    digest: str = digests[-1]
    return digest


def _read_stream(events: Any, action: str) -> list[dict[str, Any]]:
    # The engine answers 200 before it begins; what goes wrong later is only in the stream.
    seen = list(events)
    for event in seen:
        if "error" in event:
            raise MissingRequirement(f"{action}: {event['error']}")
    return seen
