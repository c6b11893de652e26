"""Polling of one image: ask its registry for the digest and record the result. Used by the job `poll_image`."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from daemon.registry.client import RegistryClient, ResolvedImage
from daemon.registry.errors import InvalidResponse, NotFound, RateLimited, RegistryError, TooSlow
from portal.database import Database
from portal.models import Node, PolledImage
from portal.rules.allowlist import Allowlist, ImageNotAllowed
from portal.rules.references import parse_reference
from portal.services.releases import polling
from portal.services.releases.polling import ClaimedPoll

QUICK_SECONDS = 5.0
"""Time limit of each call of a quick poll. A registry that exceeds it is polled again among the slow ones."""
SLOW_REGISTRY_PAUSE = timedelta(minutes=5)
"""Pause for all images of a registry that is too slow, so that its polls do not take turns in blocking a worker."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Poller:
    """Polls due images, one per registry at a time.

    Attributes:
        database: where images, releases and nodes are stored.
        client: the registry client; its deadline is `QUICK_SECONDS`, or longer for slow registries.
        allowlist: the images that may be polled.
        every: the polling interval; None for the interval of the image's channels.
        slow: whether this poller polls the registries that were too slow for a quick poll, or the other ones.
    """

    database: Database
    client: RegistryClient
    allowlist: Allowlist
    every: timedelta | None = None
    slow: bool = False

    def poll(self, image: str, now: datetime) -> str | None:
        """Poll an image if it is due and no other worker is polling its registry.

        Errors of the registry are recorded for the operators' pages and not raised.

        Args:
            image: the image with its tag or digest.
            now: the current moment in UTC.

        Returns:
            The id of the image's release if its changelog has not been read yet, otherwise None.
        """
        with self.database.transaction() as session:
            claimed = polling.claim_poll(session, image, now, self.every, slow=self.slow)
            platforms = set(session.scalars(sa.select(Node.platform).distinct()))
        if claimed is None:
            return None
        started = time.monotonic()
        try:
            resolved = self._resolve(claimed.polled, platforms)
        except (RegistryError, ImageNotAllowed) as error:
            self._record_failure(claimed, error, now)
            return None
        except Exception as error:
            # The answer has a form that the client does not expect. The image shows that its polls fail.
            logger.exception("polling %s failed", image)
            problem = f"The registry's answer cannot be processed ({type(error).__name__}). See the worker's log."
            self._record_failure(claimed, InvalidResponse(problem), now)
            return None
        was_quick = time.monotonic() - started < QUICK_SECONDS
        return self._record_result(claimed, resolved, now, was_quick=was_quick)

    def _resolve(self, polled: PolledImage, platforms: set[str]) -> ResolvedImage:
        """Ask for the digest, and for the manifest only if the digest is new."""
        reference = parse_reference(polled.image)
        self.allowlist.require(reference)
        if reference.digest is None:
            digest = self.client.get_current_digest(reference)
            if digest == polled.last_digest:
                return ResolvedImage(digest, {})
        return self.client.resolve(reference, platforms)

    def _record_result(
        self, claimed: ClaimedPoll, resolved: ResolvedImage, now: datetime, *, was_quick: bool
    ) -> str | None:
        reference = parse_reference(claimed.polled.image)
        with self.database.transaction() as session:
            release = polling.record_release(session, reference, resolved.digest, resolved.platform_digests, now)
            polling.record_answer(session, claimed.polled.image, resolved.digest, release, now)
            if self.slow and was_quick:
                polling.mark_quick(session, claimed.polled.image)
            polling.end_poll(session, claimed)
            return release.id if release.changelog_read_at is None else None

    def _record_failure(self, claimed: ClaimedPoll, error: Exception, now: datetime) -> None:
        image = claimed.polled.image
        logger.warning("polling %s failed: %s", image, error)
        with self.database.transaction() as session:
            if isinstance(error, RateLimited):
                until = now + timedelta(seconds=error.retry_after)
                polling.postpone_registry(session, image, str(error), now, until, repeat=True)
            elif isinstance(error, TooSlow) and not self.slow:
                polling.mark_slow(session, image, now)
            elif isinstance(error, TooSlow):
                if claimed.polled.next_poll_at is None:  # only one poll was requested
                    polling.record_failure(session, image, str(error), now)
                until = now + SLOW_REGISTRY_PAUSE
                polling.postpone_registry(session, image, str(error), now, until, repeat=False)
            else:
                polling.record_failure(session, image, str(error), now, vanished=isinstance(error, NotFound))
            polling.end_poll(session, claimed)
