"""Posting one alert to its receiver, and what the answer means. Used by the sender.

A receiver is not trusted. A request follows no redirect and has a deadline from the connection to the end of the
answer's headers; the body of the answer is not read.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from daemon.alerts.formats import AlertRequest
from daemon.network.addresses import AddressGuard, AddressRefused, Network
from daemon.network.deadlines import Deadline
from daemon.network.http import BareSession, parse_retry_after

SECONDS = 10.0
"""Time limit of one attempt."""

_TRANSIENT = frozenset({408, 425, 429})


class PostError(Exception):
    """The receiver did not accept the message. The text says why and never contains the URL."""


class Refused(PostError):
    """Another attempt would fail too, for example because the URL does not exist any more."""


class Unavailable(PostError):
    """A later attempt may succeed.

    Args:
        message: what happened.
        wait: how long the receiver asks to wait.
    """

    def __init__(self, message: str, wait: timedelta | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def post(request: AlertRequest, now: datetime) -> None:
    """Send a request.

    Args:
        request: the request. Its URL comes from an operator, so it may be on a private network, but not the metadata
            service of a cloud, which would hand out the credentials of this machine.
        now: the current moment in UTC.

    Raises:
        Refused: the receiver refuses the message, or its address is forbidden.
        Unavailable: no answer arrived in time, or the receiver asks to try again.
    """
    guard = AddressGuard(urlsplit(request.url).hostname or "", Network.LOOPBACK)
    try:
        guard.permit_host()
        with (
            Deadline(SECONDS),
            BareSession(guard) as session,
            session.post(
                request.url,
                data=request.body,
                headers={"Content-Type": "application/json", "User-Agent": "Flotilla", **request.headers},
                timeout=SECONDS,
                stream=True,
            ) as received,
        ):
            status, retry_after = received.status_code, received.headers.get("Retry-After")
    except AddressRefused:
        raise Refused("The URL leads to an address that alerts may not be sent to.") from None
    except (requests.Timeout, TimeoutError):
        raise Unavailable(f"The receiver did not answer within {SECONDS:g} s.") from None
    except requests.exceptions.SSLError:
        raise Unavailable("The receiver has a certificate that cannot be verified.") from None
    except (requests.RequestException, HTTPError, ValueError, OSError) as error:
        # The messages of these errors contain the URL.
        raise Unavailable(f"The receiver cannot be reached ({type(error).__name__}).") from None
    _check_status(status, retry_after, now)


def _check_status(status: int, retry_after: str | None, now: datetime) -> None:
    if 200 <= status < 300:
        return
    if status >= 500 or status in _TRANSIENT:
        wait = timedelta(seconds=parse_retry_after(retry_after, now)) if retry_after else None
        raise Unavailable(f"The receiver answered with status {status}.", wait)
    if 300 <= status < 400:
        raise Refused(f"The receiver redirects (status {status}). Enter the final URL.")
    raise Refused(f"The receiver answered with status {status}.")
