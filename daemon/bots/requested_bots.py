"""Bots for new organizations: fulfil the due requests, each in a separate transaction. Used by the scheduler."""

from __future__ import annotations

from datetime import datetime

from daemon.isolated_tasks import isolate_errors
from portal.database import Database
from portal.rules.allowlist import Allowlist
from portal.services.bots import bot_requests
from portal.settings import Settings


def fulfil_requests(database: Database, settings: Settings, now: datetime) -> None:
    """Create the rows of the bots for which new organizations wait, where a node has room.

    A request that fails unexpectedly is logged and does not affect the others.

    Args:
        database: database of this installation.
        settings: settings, for the allowlist.
        now: the moment.
    """
    allowlist = Allowlist.parse(settings.fleet_image_allowlist)
    with database.reading() as session:
        due = bot_requests.list_due(session, now)
    for org_id in due:
        with isolate_errors(f"the first bot of organization {org_id}"), database.transaction() as session:
            bot_requests.fulfil(session, allowlist, org_id, now)
