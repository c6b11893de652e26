"""Names of jobs, which the portal uses because it must not import the daemon."""

from __future__ import annotations

from daemon import jobs
from portal.queue import JobName


def test_every_job_name_has_a_job() -> None:
    assert set(JobName) == jobs.NAMES
