"""A registry on a free port of loopback, which engines accept without TLS."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.processes import free_port, require_program, running

CONFIGURATION = """\
version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: {folder}/data
  delete:
    enabled: true
http:
  addr: {address}
"""


@contextmanager
def running_registry(folder: Path, port: int | None = None) -> Iterator[str]:
    """Run a registry for the time of a `with` block and give its address, such as `127.0.0.1:45123`.

    Args:
        folder: keeps the pushed images and the log.
        port: TCP port on loopback; None takes a free one.

    Raises:
        MachineError: the program is missing or does not start.
    """
    program = require_program("docker-registry", "docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{port or free_port()}"
    configuration = folder / "config.yml"
    configuration.write_text(CONFIGURATION.format(folder=folder, address=address))
    with running(
        [program, "serve", str(configuration)],
        log=folder / "registry.log",
        ready=lambda: _answers(address),
    ):
        yield address


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/v2/", timeout=5):
            return True
    except urllib.error.URLError:
        return False
