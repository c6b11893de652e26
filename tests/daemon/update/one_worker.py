"""A worker process that runs one update: `python -m tests.daemon.update.one_worker <update id>`.

It pauses at the beginning of each step. Without that, a test on a busy machine could miss a short step, in which it
has to kill the worker.
"""

from __future__ import annotations

import sys
import time

from daemon.update.sequence import update_bot
from daemon.update.update_context import UpdateContext
from portal.database import Database
from portal.models import Step
from portal.models.encrypted import use_keys
from portal.settings import Settings

_PAUSE_SECONDS = 0.1


def pause_at_each_step() -> None:
    """Let updates pause after they have recorded the beginning of a step."""
    enter_step = UpdateContext.enter_step

    def enter_step_and_pause(context: UpdateContext, step: Step) -> None:
        enter_step(context, step)
        time.sleep(_PAUSE_SECONDS)

    UpdateContext.enter_step = enter_step_and_pause  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    settings = Settings.from_environment()
    use_keys(settings.secret_key)
    pause_at_each_step()
    update_bot(Database(settings.database_url), settings, sys.argv[1])
