"""A container registry on loopback, where engines need no TLS. Used by the demo, the benchmarks and the tests."""

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
    """Run a registry for the duration of a `with` block and yield its address, such as `127.0.0.1:45123`.

    Args:
        folder: stores the pushed images and the log.
        port: TCP port on loopback; None chooses a free one.

    Raises:
        MissingRequirement: the program is missing or does not start.
    """
    program = require_program("docker-registry", "docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{port or free_port()}"
    configuration = folder / "config.yml"
    configuration.write_text(CONFIGURATION.format(folder=folder, address=address))
    with running(
        [program, "serve", str(configuration)],
        log=folder / "registry.log",
        ready=lambda: _is_ready(address),
    ):
        yield address


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/v2/", timeout=5):
            return True
    except urllib.error.URLError:
        return False
