"""Lookup of bots, releases and images by the text that a user typed. Used by the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, BotPhase, PolledImage, Release
from portal.rules.references import InvalidReference, Reference, parse_reference
from portal.services.errors import ConflictError, InvalidError, NotFoundError
from portal.services.releases import releases

_SHORTEST_PREFIX = 6

Row = TypeVar("Row", Bot, Release)


@dataclass(frozen=True)
class RolloutTarget:
    """The release of a rollout, and the image where the user named one.

    Attributes:
        release: the release to roll out.
        image: the reference whose bots are updated; None where the user named a release.
    """

    release: Release
    image: str | None


def find_bot(session: Session, text: str) -> Bot:
    """Find a bot by its id, its subdomain or its unique name.

    Raises:
        NotFoundError: no bot matches.
        ConflictError: several bots have this name.
    """
    exact = session.scalar(sa.select(Bot).where(sa.or_(Bot.id == text, Bot.subdomain == text)))
    if exact is not None:
        return exact
    named = session.scalars(sa.select(Bot).where(Bot.name == text, Bot.phase != BotPhase.REMOVED)).all()
    return _require_one(named, f"There is no bot {text!r}. `flotilla bots list` shows all bots.", "subdomains")


def find_release(session: Session, text: str) -> Release:
    """Find a release by its id, its digest, at least six characters of its digest, or its unique version.

    Raises:
        NotFoundError: no release matches.
        ConflictError: several releases match.
    """
    exact = session.get(Release, text)
    if exact is not None:
        return exact
    digest = text.rpartition("@")[2].removeprefix("sha256:")
    found: Sequence[Release] = []
    if len(digest) >= _SHORTEST_PREFIX:
        by_digest = Release.digest.startswith(f"sha256:{digest}", autoescape=True)
        found = session.scalars(sa.select(Release).where(by_digest)).all()
    if not found:
        found = [known for known in session.scalars(sa.select(Release)) if known.version == text]
    return _require_one(found, f"There is no release {text!r}. `flotilla releases list` shows all releases.", "ids")


def find_rollout_target(session: Session, text: str) -> RolloutTarget:
    """Find the release at which an image such as `ghcr.io/acme/bot:stable` points, or a release by its own name.

    Raises:
        NotFoundError: the text is neither a polled image nor a release.
        ConflictError: the release of the image is quarantined or unknown, or several releases match.
    """
    image = _find_polled_image(session, text)
    if image is None:
        return RolloutTarget(find_release(session, text), None)
    target = releases.find_target(session, image)
    if target is None:
        raise ConflictError(f"{image} has no release to roll out: none is known yet, or it is quarantined.")
    return RolloutTarget(target, image)


def parse_image(text: str) -> Reference:
    """Parse an image reference.

    Raises:
        InvalidError: the text is not an image reference; the message says why.
    """
    try:
        return parse_reference(text.strip())
    except InvalidReference as error:
        raise InvalidError(str(error), "image") from None


def _find_polled_image(session: Session, text: str) -> str | None:
    try:
        parsed = parse_reference(text)
    except InvalidReference:
        return None
    if parsed.digest is not None:
        return None
    return session.scalar(sa.select(PolledImage.image).where(PolledImage.image == str(parsed)))


def _require_one(found: Sequence[Row], missing: str, distinct_by: str) -> Row:
    if not found:
        raise NotFoundError(missing)
    if len(found) > 1:
        raise ConflictError(f"Several match. Use one of their {distinct_by} instead.")
    return found[0]
