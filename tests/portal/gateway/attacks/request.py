"""A raw request that attacks the gateway. Used by the lists of attacks beside it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.gateway import COOKIE

FORGED = "forged-by-a-client"


@dataclass(frozen=True)
class Attack:
    """A raw request.

    Attributes:
        name: what it tries.
        request: the bytes.
        status: the status of the first response; None if several are right.
    """

    name: str
    request: bytes
    status: int | None = None

    @property
    def requests(self) -> int:
        """How many requests the bot may receive, at most."""
        return self.request.count(b" HTTP/1.")


def build(
    host: str,
    token: str,
    *lines: str,
    target: str = "/",
    method: str = "GET",
    version: str = "HTTP/1.1",
    body: str = "",
    hosts: tuple[str, ...] | None = None,
) -> bytes:
    """Build a request with the session of a member, and further lines."""
    head = [
        f"{method} {target} {version}",
        *(f"Host: {name}" for name in ((host,) if hosts is None else hosts)),
        f"Cookie: {COOKIE}={token}; flotilla-session=portal-secret",
        "Sec-Fetch-Site: same-origin",
        *lines,
        "Connection: close" if not any(line.lower().startswith("connection") for line in lines) else "X-Pad: 1",
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode("latin-1")
