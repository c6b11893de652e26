"""Bots for new organizations: fulfil the due requests, each in a separate transaction. Used by the scheduler."""

from __future__ import annotations

import logging
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from portal.database import Database
from portal.rules.allowlist import Allowlist
from portal.services.bots import bot_requests
from portal.settings import Settings

logger = logging.getLogger(__name__)


def fulfil_requests(database: Database, settings: Settings, now: datetime) -> None:
    """Create the rows of the bots for which new organizations wait, where a node has room.

    A request that fails unexpectedly is logged and does not disturb the others.

    Args:
        database: database of this installation.
        settings: settings, for the allowlist.
        now: the moment.

    Raises:
        SQLAlchemyError: the database cannot be used.
    """
    with database.reading() as session:
        due = bot_requests.list_due(session, now)
    for org_id in due:
        try:
            with database.transaction() as session:
                allowlist = Allowlist.parse(settings.fleet_image_allowlist)
                bot_requests.fulfil(session, allowlist, org_id, now)
        except SQLAlchemyError:
            raise
        except Exception:
            logger.exception("the bot of organization %s could not be created", org_id)
