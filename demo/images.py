"""The reference images: build them without a public registry and push them. Used by demo, benchmarks and tests.

Every image is labelled, and containers inherit the labels of their image, so that cleaning up finds them.
"""

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import docker

from demo.processes import DemoError
from demo.rootfs import write_helper, write_python
from demo.versions import BotVersion

BASE_REPOSITORY = "flotilla/reference-base"
BOT_REPOSITORY = "flotilla/reference-bot"
HELPER_REPOSITORY = "flotilla/snapshot-helper"
BOT_SOURCE = Path(__file__).parent / "reference_bot"

BOT_CONFIGURATION = (
    "ENV PATH=/usr/local/bin:/bin PYTHONDONTWRITEBYTECODE=1",
    "WORKDIR /app",
    "VOLUME /data",
    "VOLUME /paperclip",
    "EXPOSE 3100",
    'CMD ["/usr/local/bin/python", "-m", "reference_bot"]',
)


def build_base_image(engine: docker.APIClient, labels: Mapping[str, str]) -> str:
    """Build the base image of all reference bots, which contains the running Python and a shell.

    Args:
        engine: the engine that builds.
        labels: put on the image.

    Returns:
        The name of the image on this engine; the image is not pushed.
    """
    return _import(engine, f"{BASE_REPOSITORY}:latest", write_python, labels)


def build_helper_image(engine: docker.APIClient, registry: str, labels: Mapping[str, str]) -> str:
    """Build and push the image that takes and restores snapshots: a shell, GNU tar, findutils, coreutils and lsattr.

    Args:
        engine: the engine that builds.
        registry: host and port of the registry.
        labels: put on the image.

    Returns:
        The reference of the image, for the setting `SNAPSHOT_IMAGE`.

    Raises:
        DemoError: building or pushing failed.
    """
    reference = _import(engine, f"{registry}/{HELPER_REPOSITORY}:1", write_helper, labels)
    _push(engine, reference)
    return reference


def build_reference_bot(
    engine: docker.APIClient, registry: str, version: BotVersion, tag: str, labels: Mapping[str, str]
) -> str:
    """Build one release of the reference bot and push it as `<registry>/flotilla/reference-bot:<tag>`.

    The base image must exist on the engine; see `build_base_image`.

    Args:
        engine: the engine that builds.
        registry: host and port of the registry.
        version: the release.
        tag: name of the release in the registry; an existing tag moves to this release.
        labels: put on the image.

    Returns:
        The digest of the release in the registry.

    Raises:
        DemoError: building or pushing failed.
    """
    return build_bot_from_source(engine, registry, _build_context(version), tag, labels)


def build_bot_from_source(
    engine: docker.APIClient, registry: str, source: IO[bytes], tag: str, labels: Mapping[str, str]
) -> str:
    """Build a bot from a tar archive with a Dockerfile, and push it as `build_reference_bot` does.

    Args:
        engine: the engine that builds.
        registry: host and port of the registry.
        source: the archive.
        tag: name of the release in the registry; an existing tag moves to this release.
        labels: put on the image.

    Returns:
        The digest of the release in the registry.

    Raises:
        DemoError: building or pushing failed.
    """
    reference = f"{registry}/{BOT_REPOSITORY}:{tag}"
    output = engine.build(
        fileobj=source,
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
        "migration_seconds": version.migration_seconds,
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
        raise DemoError(f"pushing {reference}: the engine reported no digest")
    digest: str = digests[-1]
    return digest


def _read_stream(events: Any, action: str) -> list[dict[str, Any]]:
    # The engine answers 200 before it begins, so later errors appear only in the stream.
    received = list(events)
    for event in received:
        if "error" in event:
            raise DemoError(f"{action}: {event['error']}")
    return received
