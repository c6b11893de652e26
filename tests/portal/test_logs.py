"""Log lines: one per record, with the id of the request or job, without secrets."""

import logging
import sys

from portal.logs import OneLineFormatter
from portal.services.events import current_request_id


def format_line(message: str, *arguments: object, secrets: tuple[str, ...] = (), exception: bool = False) -> str:
    info = sys.exc_info() if exception else None
    record = logging.LogRecord("daemon.jobs", logging.INFO, __file__, 1, message, arguments, info)
    return OneLineFormatter(secrets).format(record)


def test_traceback_and_line_breaks_stay_on_one_line() -> None:
    try:
        int("broken\r\n2026 INFO all is well")
    except ValueError:
        text = format_line("failed", exception=True)

    assert len(text.splitlines()) == 1
    assert "ValueError: invalid literal" in text


def test_line_contains_the_id_of_the_job() -> None:
    token = current_request_id.set("job-42")
    try:
        assert " job-42 " in format_line("polled")
    finally:
        current_request_id.reset(token)


def test_secrets_are_hidden_everywhere() -> None:
    text = format_line(
        "cannot reach %s with %s, and postgresql://bob:hunter2@db/x says no; Authorization: Bearer abc.def",
        "redis://:opensesame@cache",
        "a-secret-key",
        secrets=("a-secret-key",),
    )

    for secret in ("hunter2", "opensesame", "a-secret-key", "abc.def"):
        assert secret not in text
    assert "@db/x" in text


def test_secret_that_contains_another_is_hidden_completely() -> None:
    assert "long" not in format_line("see secret-and-long", secrets=("secret", "secret-and-long"))
