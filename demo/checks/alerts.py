"""The demo's check of alerts: a webhook receives signed messages about the release that failed. Used by `--once`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from demo.platform import flotilla
from demo.processes import free_port, wait_until

_CHANNEL = "Demo receiver"
_EXPECTED = ("bot.update_failed", "release.quarantined", "rollout.aborted")
_SECONDS = 30


@dataclass
class AlertReceiver:
    """A receiver on loopback.

    Attributes:
        port: where it listens.
        secret: the signing secret of its channel, once that exists.
        messages: the sentences that arrived with a valid signature, by the event's tag.
        invalid: number of requests without a valid signature.
    """

    port: int
    secret: str = ""
    messages: dict[str, str] = field(default_factory=dict)
    invalid: int = 0

    def receive(self, headers: Mapping[str, str], body: bytes) -> None:
        """Check the signature of a request, as the specification Standard Webhooks says, and store its sentence."""
        signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        expected = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        if hmac.compare_digest(expected, headers.get("webhook-signature") or ""):
            content = json.loads(body)
            self.messages[content["type"]] = content["data"]["sentence"]
        else:
            self.invalid += 1


@contextmanager
def receiving_alerts(settings: Mapping[str, str]) -> Iterator[AlertReceiver]:
    """Run a receiver, with a channel to it, for the duration of a `with` block.

    Args:
        settings: environment of the platform's processes.
    """
    receiver = AlertReceiver(free_port())

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.receive(dict(self.headers.items()), self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing: the terminal shows the progress of the demo."""

    flotilla(settings, "alerts", "delete", _CHANNEL, codes=(0, 1))  # of an earlier run
    url = f"http://127.0.0.1:{receiver.port}/alerts"
    events = [part for tag in _EXPECTED for part in ("--event", tag)]
    options = ("--format", "json", "--url-file", "-", *events)
    receiver.secret = flotilla(settings, "alerts", "add", _CHANNEL, *options, stdin=url).strip().splitlines()[-1]
    with ThreadingHTTPServer(("127.0.0.1", receiver.port), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="alerts", daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def check_alerts(receiver: AlertReceiver) -> bool:
    """Wait for the alerts about the release that failed, and print them. Return whether all were signed.

    Raises:
        DemoError: an alert did not arrive in time.
    """
    expected = set(_EXPECTED)
    wait_until(lambda: receiver.messages.keys() >= expected, "the alerts did not arrive", _SECONDS)
    print("\nSigned alerts that arrived at a webhook:", flush=True)
    for sentence in receiver.messages.values():
        print(f"  {sentence}", flush=True)
    if receiver.invalid:
        print(f"  WRONG: {receiver.invalid} without a valid signature", flush=True)
    return not receiver.invalid
