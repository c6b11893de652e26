"""The names by which the portal enqueues jobs, because it may not import the daemon."""

from __future__ import annotations

from daemon import jobs
from portal.queue import JobName


def test_every_job_name_has_its_job() -> None:
    assert set(JobName) == jobs.NAMES
