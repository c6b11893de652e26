"""Images of the reference bot with faults that only a container shows."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence

import docker

_RUN = "import runpy; runpy.run_module('reference_bot', run_name='__main__')"

WRITES_OUTSIDE = f"open('/srv.log', 'w').write('started'); {_RUN}"
IGNORES_SIGTERM = f"import signal; signal.signal = lambda *_: None; {_RUN}"
STOPS_BY_ANOTHER_SIGNAL = f"import os, signal; signal.signal(signal.SIGUSR1, lambda *_: os._exit(0)); {_RUN}"
LOOPBACK_ONLY = (
    "import socketserver as s; right = s.TCPServer.__init__; "
    f"s.TCPServer.__init__ = lambda self, address, *rest: right(self, ('127.0.0.1', address[1]), *rest); {_RUN}"
)
PRINTS_ITS_LIMITS = (
    "print(*(line for line in open('/proc/self/status') if line.startswith(('CapEff', 'NoNewPrivs'))), flush=True);"
    f"{_RUN}"
)


def build_image(
    engine: docker.APIClient,
    base: str,
    labels: Mapping[str, str],
    *,
    program: str | None = None,
    lines: Sequence[str] = (),
    changelog: str | None = None,
) -> str:
    """Build an image on another one, and return its id.

    Args:
        engine: the engine.
        base: the other image.
        labels: labels of the image.
        program: Python to run in place of the bot's own command.
        lines: further lines of the Dockerfile.
        changelog: content of the changelog.
    """
    dockerfile = [f"FROM {base}", *lines]
    if program is not None:
        dockerfile.append(f"CMD {json.dumps(['/usr/local/bin/python', '-c', program])}")
    files = {}
    if changelog is not None:
        dockerfile.append("COPY changelog.json /app/changelogs/latest.json")
        files["changelog.json"] = changelog
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, content in {"Dockerfile": "\n".join(dockerfile), **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))
    context.seek(0)
    output = engine.build(
        fileobj=context, custom_context=True, labels=dict(labels), rm=True, forcerm=True, decode=True
    )
    found = [event["aux"]["ID"] for event in output if "aux" in event]
    return str(found[-1])
