"""Posting to receivers: statuses, redirects, forbidden addresses, slow and broken answers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from daemon.alerts import posting
from daemon.alerts.formats import AlertRequest
from daemon.alerts.posting import Refused, Unavailable, post
from portal.models import utcnow
from tests.support.receiver import Receiver
from tests.support.slow_peers import FILLER, Answer, slow_server


def send(url: str) -> None:
    """Post a message to a URL whose path is secret."""
    post(AlertRequest(f"{url}/secret-path", b"{}"), utcnow())


@pytest.mark.parametrize("status", [200, 204])
def test_success_is_any_2xx(receiver: Receiver, status: int) -> None:
    receiver.status = status
    send(receiver.url)
    assert [(request.path, request.body) for request in receiver.requests] == [("/secret-path", b"{}")]


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, Refused), (404, Refused), (410, Refused), (302, Refused), (408, Unavailable), (500, Unavailable)],
)
def test_status_decides_whether_to_try_again(receiver: Receiver, status: int, error: type[Exception]) -> None:
    receiver.status, receiver.headers = status, {"Location": f"{receiver.url}/elsewhere"}
    with pytest.raises(error, match=str(status)):
        send(receiver.url)
    assert len(receiver.requests) == 1, "redirects are not followed"


def test_rate_limit_says_how_long_to_wait(receiver: Receiver) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": "90"}
    with pytest.raises(Unavailable) as caught:
        send(receiver.url)
    assert caught.value.wait == timedelta(seconds=90)


@pytest.mark.parametrize("url", ["http://169.254.169.254", "http://[fd00:ec2::254]"])
def test_metadata_services_are_forbidden(url: str) -> None:
    with pytest.raises(Refused, match="may not be sent to"):
        send(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://does-not-exist.invalid"])
def test_error_of_an_unreachable_receiver_does_not_contain_the_url(url: str) -> None:
    with pytest.raises(Unavailable) as caught:
        send(url)
    assert "secret-path" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_receiver_that_sends_its_headers_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "SECONDS", 0.5)
    with slow_server(lambda _: Answer(b"HTTP/1.1 200 OK\r\nX: ", FILLER)) as address, pytest.raises(Unavailable):
        send(f"http://{address}")


def test_endless_body_is_not_read() -> None:
    with slow_server(lambda _: Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", FILLER)) as address:
        send(f"http://{address}")


def test_answer_that_is_no_http_is_unavailable() -> None:
    with slow_server(lambda _: Answer(b"hello\r\n\r\n")) as address, pytest.raises(Unavailable):
        send(f"http://{address}")
