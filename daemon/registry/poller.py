"""One poll of one image: ask its registry, write down the answer. What follows from it is decided elsewhere."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from daemon.registry.client import RegistryClient, Resolved
from daemon.registry.errors import NotFound, RateLimited, RegistryError
from portal.database import Database
from portal.models import Node, PolledImage
from portal.rules.allowlist import Allowlist, ImageNotAllowed
from portal.rules.references import parse_reference
from portal.services.releases import polling

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Poller:
    """Polls images that are due; safe to run twice at once for the same image.

    Attributes:
        database: Where images, releases and nodes are kept.
        client: Asks the registries.
        allowlist: An image that is no longer admitted is not asked for.
        every: Overrides the polling interval of the channels.
    """

    database: Database
    client: RegistryClient
    allowlist: Allowlist
    every: timedelta | None = None

    def poll(self, image: str, now: datetime) -> str | None:
        """Ask what ``image`` points at, if it is due and nobody else is asking.

        Trouble with the registry is written down for people to see and raises nothing.

        Returns:
            The id of the release it points at when its changelog has yet to be read, else None.
        """
        with self.database.transaction() as session:
            claimed = polling.claim_poll(session, image, now, self.every)
            platforms = set(session.scalars(sa.select(Node.platform).distinct()))
        if claimed is None:
            return None
        try:
            resolved = self._ask(claimed, platforms)
        except (RegistryError, ImageNotAllowed) as error:
            self._note_failure(image, error, now)
            return None
        return self._note_answer(image, resolved, now)

    def _ask(self, polled: PolledImage, platforms: set[str]) -> Resolved:
        """Ask for the digest, and for the manifest behind it only where the digest is not known yet."""
        reference = parse_reference(polled.image)
        self.allowlist.require(reference)
        if reference.digest is None:
            digest = self.client.current_digest(reference)
            if digest == polled.last_digest:
                return Resolved(digest, {})
        return self.client.resolve(reference, platforms)

    def _note_answer(self, image: str, resolved: Resolved, now: datetime) -> str | None:
        reference = parse_reference(image)
        with self.database.transaction() as session:
            release = polling.record_release(session, reference, resolved.digest, resolved.platform_digests, now)
            polling.record_answer(session, image, resolved.digest, release, now)
            return release.id if release.changelog_read_at is None else None

    def _note_failure(self, image: str, error: Exception, now: datetime) -> None:
        logger.warning("poll of %s failed: %s", image, error)
        with self.database.transaction() as session:
            if isinstance(error, RateLimited):
                until = now + timedelta(seconds=error.retry_after)
                polling.postpone_registry(session, image, str(error), now, until)
            else:
                polling.record_failure(session, image, str(error), now, vanished=isinstance(error, NotFound))
