"""The portal on a port of this machine, with the address of the port as its URL. Used by tests of other processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread

from werkzeug.serving import make_server

from portal.app import create_app
from portal.settings import Settings


@contextmanager
def running_portal(settings: Settings, port: int = 0, url: str | None = None) -> Iterator[str]:
    """Serve the portal in a thread for the duration of a `with` block, and yield its URL.

    Args:
        settings: settings of this installation, without the URL.
        port: where it listens; 0 for a free port.
        url: the URL for browsers, if there is a proxy in front of the portal.
    """
    server = make_server("127.0.0.1", port, lambda _environ, _start: [], threaded=True)
    url = url or f"http://127.0.0.1:{server.server_port}"
    server.app = create_app(replace(settings, base_url=url))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
