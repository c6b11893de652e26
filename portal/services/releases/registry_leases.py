"""Leases on registries: at most one poll per registry runs. Used by `polling`.

A slow registry holds one worker until the deadline of its poll. With one poll per registry, the other workers that
poll stay free for other registries.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from hashlib import sha256

from sqlalchemy.orm import Session

from portal.models import new_id
from portal.rules.references import parse_reference
from portal.services import leases
from portal.services.leases import HeldLease

POLL_LEASE = timedelta(seconds=90)
"""Longer than all deadlines of a poll together. When a poller is killed, its registry is polled again after this."""


def acquire(session: Session, image: str) -> HeldLease | None:
    """Acquire the lease on the registry of an image. Return None while another poll of the registry runs."""
    return leases.acquire(session, _lease_name(image), new_id(), POLL_LEASE)


def select_first_per_free_registry(session: Session, images: Iterable[str]) -> list[str]:
    """Return the first image of each registry, without those of registries that are being polled.

    Args:
        session: a transaction.
        images: the images by rank, the most urgent first.
    """
    first: dict[str, str] = {}
    for image in images:
        first.setdefault(_lease_name(image), image)
    held = leases.list_held(session, first)
    return [image for name, image in first.items() if name not in held]


def _lease_name(image: str) -> str:
    """Return the name of the lease on the registry of an image."""
    # Hashed, because a registry's name may be longer than the name of a lease.
    return f"poll-{sha256(parse_reference(image).registry.encode()).hexdigest()[:32]}"
