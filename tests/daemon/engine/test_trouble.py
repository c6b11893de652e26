"""Trouble of an engine: which errors count as such, and how a call is repeated."""

from __future__ import annotations

from typing import Any

import docker
import pytest
import requests
from docker.errors import APIError, NotFound

from daemon.engine.client import EngineUnreachable, PullFailed
from daemon.engine.trouble import is_engine_trouble, repeat_in_trouble
from daemon.errors import OperationFailed
from daemon.snapshots.archives import RestoreFailed, SnapshotFailed
from daemon.snapshots.helper_containers import HelperFailed, HelperLost


def refusal(status: int) -> APIError:
    """Return the error for an answer with this status."""
    response = requests.Response()
    response.status_code = status
    return (NotFound if status == 404 else APIError)("refused", response, "refused")


def caused_by(error: OperationFailed, cause: Exception) -> OperationFailed:
    """Return the first error as if the second one had caused it."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (EngineUnreachable("no answer"), True),
        (HelperLost("removed while it ran"), True),
        (refusal(500), True),
        (refusal(503), True),
        (refusal(404), False),
        (refusal(409), False),
        (HelperFailed("the archive has 4 entries, the volume 5"), False),
        (OperationFailed("no space left on the disk of the archives", transient=True), False),
        (caused_by(SnapshotFailed("snapshot failed"), HelperLost("removed")), True),
        (caused_by(RestoreFailed("restore failed"), caused_by(HelperFailed("refused"), refusal(500))), True),
        (caused_by(RestoreFailed("restore failed"), HelperFailed("the SHA-256 differs")), False),
        (caused_by(PullFailed("pull failed"), refusal(500)), True),
        (caused_by(PullFailed("pull failed"), refusal(404)), False),
        (ValueError("a bug"), False),
        (None, False),
    ],
)
def test_trouble_is_what_the_engine_caused(error: Exception | None, expected: bool) -> None:
    assert is_engine_trouble(error) is expected


def test_call_is_repeated_until_the_trouble_is_over() -> None:
    errors: list[Exception] = [refusal(500), EngineUnreachable("no answer")]
    noted: list[Exception] = []

    def call() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert repeat_in_trouble(call, 60, noted.append) == "done"
    assert [type(error) for error in noted] == [EngineUnreachable, APIError]


@pytest.mark.parametrize(("error", "seconds"), [(refusal(404), 60.0), (refusal(500), 0.1)])
def test_other_errors_and_trouble_that_lasts_too_long_are_raised(error: Exception, seconds: float) -> None:
    noted: list[Exception] = []

    def call() -> None:
        raise error

    with pytest.raises(type(error)):
        repeat_in_trouble(call, seconds, noted.append)
    assert noted == []


@pytest.mark.docker
@pytest.mark.parametrize(
    "config",
    [{"user": "no-such-user"}, {"user": "root:no-such-group"}, {"working_dir": "/etc/passwd/x"}],
    ids=["user", "group", "folder"],
)
def test_image_that_cannot_start_is_no_trouble(
    engine: docker.APIClient, snapshot_image: str, run_labels: dict[str, str], config: dict[str, Any]
) -> None:
    """Engines answer with status 500. If this counted as trouble, such a release would stop one bot after another."""
    with pytest.raises(APIError) as caught:
        engine.start(engine.create_container(snapshot_image, ["true"], labels=run_labels, **config))
    assert (caught.value.status_code, is_engine_trouble(caught.value)) == (500, False)
