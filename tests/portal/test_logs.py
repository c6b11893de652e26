"""Log lines: one a record, with the id of what is at work, and never a secret."""

import logging
import sys

from portal.logs import OneLineFormatter
from portal.services.events import current_request_id


def line(message: str, *arguments: object, secrets: tuple[str, ...] = (), exception: bool = False) -> str:
    info = sys.exc_info() if exception else None
    record = logging.LogRecord("daemon.jobs", logging.INFO, __file__, 1, message, arguments, info)
    return OneLineFormatter(secrets).format(record)


def test_a_traceback_and_a_smuggled_line_stay_on_one_line() -> None:
    try:
        int("broken\r\n2026 INFO all is well")
    except ValueError:
        text = line("failed", exception=True)

    assert len(text.splitlines()) == 1
    assert "ValueError: invalid literal" in text


def test_the_job_at_work_is_named() -> None:
    token = current_request_id.set("job-42")
    try:
        assert " job-42 " in line("polled")
    finally:
        current_request_id.reset(token)


def test_secrets_are_hidden_wherever_they_appear() -> None:
    text = line(
        "cannot reach %s with %s, and postgresql://bob:hunter2@db/x says no; Authorization: Bearer abc.def",
        "redis://:opensesame@cache",
        "a-secret-key",
        secrets=("a-secret-key",),
    )

    for secret in ("hunter2", "opensesame", "a-secret-key", "abc.def"):
        assert secret not in text
    assert "@db/x" in text


def test_a_secret_that_contains_another_leaves_no_rest() -> None:
    assert "long" not in line("see secret-and-long", secrets=("secret", "secret-and-long"))
