"""Finding what a person at the command line named: a bot, a release, an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.models import Bot, PolledImage, Release
from portal.rules.references import InvalidReference, Reference, parse_reference
from portal.services.errors import ConflictError, InvalidError, NotFoundError
from portal.services.releases import releases

_SHORTEST_PREFIX = 6

Row = TypeVar("Row", Bot, Release)


@dataclass(frozen=True)
class RolloutTarget:
    """What a rollout should bring about.

    Attributes:
        release: that is to run.
        image: the reference whose bots are meant; None where a release was named, for it has no tag.
    """

    release: Release
    image: str | None


def find_bot(session: Session, text: str) -> Bot:
    """A bot by its id or subdomain, or by its name where only one is called so.

    Raises:
        NotFoundError: there is none.
        ConflictError: several have that name.
    """
    exact = session.scalar(sa.select(Bot).where(sa.or_(Bot.id == text, Bot.subdomain == text)))
    if exact is not None:
        return exact
    named = session.scalars(sa.select(Bot).where(Bot.name == text)).all()
    return _only(named, f"There is no bot {text!r}; `flotilla bots list` shows all.", "subdomains")


def find_release(session: Session, text: str) -> Release:
    """A release by its id, by its digest or the beginning of that, or by its version where only one has it.

    Raises:
        NotFoundError: there is none.
        ConflictError: several fit.
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
    return _only(found, f"There is no release {text!r}; `flotilla releases list` shows all.", "ids")


def find_rollout_target(session: Session, text: str) -> RolloutTarget:
    """What to roll out: the release an image such as `ghcr.io/acme/bot:stable` points at, or a release itself.

    Raises:
        NotFoundError: neither an image that is polled nor a release.
        ConflictError: the image's newest release is quarantined or not known yet, or several releases fit.
    """
    image = _polled(session, text)
    if image is None:
        return RolloutTarget(find_release(session, text), None)
    target = releases.find_target(session, image)
    if target is None:
        raise ConflictError(f"{image} points at no release that may run: none is known yet, or it is quarantined.")
    return RolloutTarget(target, image)


def parse_image(text: str) -> Reference:
    """The image a person typed.

    Raises:
        InvalidError: it is none; the message says why.
    """
    try:
        return parse_reference(text.strip())
    except InvalidReference as error:
        raise InvalidError(str(error), "image") from None


def _polled(session: Session, text: str) -> str | None:
    try:
        parsed = parse_reference(text)
    except InvalidReference:
        return None
    if parsed.digest is not None:
        return None
    return session.scalar(sa.select(PolledImage.image).where(PolledImage.image == str(parsed)))


def _only(found: Sequence[Row], missing: str, tell_apart_by: str) -> Row:
    if not found:
        raise NotFoundError(missing)
    if len(found) > 1:
        raise ConflictError(f"Several fit; tell them apart by their {tell_apart_by}.")
    return found[0]
