"""What the page of a rollout shows. Each part of the page loads only what it uses. Used by the pages of rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cached_property

from flask import request

from portal.models import Rollout, UpdateState, utcnow
from portal.services.errors import ConflictError
from portal.services.paging import Page
from portal.services.rollouts import progress, progress_history, rollouts, update_list
from portal.views.support import configuration
from portal.web.charts import ColumnChart, Series
from portal.web.unit_of_work import session

WAVES = 30
"""Number of waves that the page shows; of a longer rollout these are the last ones."""

_SHORT, _LONG = timedelta(hours=1), timedelta(hours=20)
"""Durations of rollouts whose chart shows seconds, and of those whose chart shows days."""
STATE_LABELS = {
    UpdateState.PENDING: "Waiting",
    UpdateState.RUNNING: "Updating",
    UpdateState.UPDATED: "Updated",
    UpdateState.ROLLED_BACK: "Rolled back",
    UpdateState.FAILED: "Failed",
    UpdateState.NEEDS_ATTENTION: "Needs attention",
    UpdateState.SKIPPED: "Skipped",
}
"""States of updates in words, in the order in which a bot may pass through them."""


class RolloutPage:
    """The page of one rollout, for its templates. Templates read only what they show, and only that is loaded."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.now = utcnow()
        self.state_labels = STATE_LABELS
        self.text = request.args.get("q", "")
        self.show: UpdateState | None = None
        with suppress(ValueError):
            self.show = UpdateState(request.args.get("show", ""))

    @property
    def is_open(self) -> bool:
        """Whether the rollout has not ended."""
        return self.rollout.state in Rollout.OPEN

    @cached_property
    def summary(self) -> progress.RolloutSummary:
        """State and counts."""
        timeout = configuration.current_settings().health_check_timeout
        return progress.summarize(session(), self.rollout, self.now, timeout)

    @cached_property
    def waiting(self) -> progress.Waiting:
        """Why no bot starts at the moment."""
        timeout = configuration.current_settings().health_check_timeout
        return progress.explain_waiting(session(), self.rollout, self.now, timeout)

    @cached_property
    def waves(self) -> Mapping[int | None, Mapping[UpdateState, int]]:
        """Numbers of bots by wave and state."""
        return progress.list_waves(session(), self.rollout, WAVES)

    @cached_property
    def updates(self) -> Page[update_list.UpdateRow]:
        """The bots that match the filters in the URL."""
        page = request.args.get("page", 1, type=int)
        return update_list.list_updates(session(), self.rollout, self.show, self.text, page)

    @cached_property
    def retry_refusal(self) -> ConflictError | None:
        """Why the failed bots cannot be retried, except for a quarantine."""
        return rollouts.find_retry_refusal(session(), self.rollout)

    @cached_property
    def chart(self) -> ColumnChart:
        """Progress over time."""
        moments = progress_history.list_moments(session(), self.rollout, self.now)
        spanned = moments[-1].at - moments[0].at if moments else timedelta()
        pattern = "%H:%M:%S" if spanned < _SHORT else "%H:%M" if spanned < _LONG else "%d %b %H:%M"
        return ColumnChart(
            title="Progress over time",
            heading="Until (UTC)",
            labels=[moment.at.strftime(pattern) for moment in moments],
            series=[
                Series("updated", "updated", [moment.updated for moment in moments]),
                Series("failed or rolled back", "failed", [moment.failed for moment in moments]),
            ],
        )
