"""What templates can say: times, digests, addresses of files that browsers may keep for a year."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask, url_for
from jinja2 import StrictUndefined

from portal import policy
from portal.models import Org, utcnow
from portal.paths import ROOT
from portal.rules import email_addresses
from portal.services.orgs import orgs
from portal.services.rollouts import timings
from portal.settings import Settings
from portal.web import htmx
from portal.web.session_cookie import visitor
from portal.web.unit_of_work import session

VENDOR = {
    "htmx.min.js": ROOT / "node_modules/htmx.org/dist/htmx.min.js",
    "tabler.min.css": ROOT / "node_modules/@tabler/core/dist/css/tabler.min.css",
}
"""The few files of other people that browsers need, where npm put them."""

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def init_app(app: Flask, settings: Settings) -> None:
    """Teach Jinja our words; a template that misspells a name fails instead of showing nothing."""
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters.update(
        ago=ago,
        downtime=timings.measure_downtime,
        duration=duration,
        exact=exact,
        masked=email_addresses.mask,
        short=short_digest,
        steps=timings.list_step_durations,
        words=words,
    )
    app.jinja_env.globals.update(
        asset=asset,
        vendor=vendor,
        htmx_configuration=htmx.CONFIGURATION,
        product_name=settings.product_name,
        billing_url=settings.billing_url,
        can=policy.can,
        my_orgs=my_orgs,
        Action=policy.Action,
    )

    @app.context_processor
    def _visitor() -> dict[str, Any]:
        return {"visitor": visitor()}


def asset(name: str) -> str:
    """Address of one of our own static files; it changes with the content."""
    return url_for("static", filename=name, v=_content_hash(ROOT / "static" / name))


def vendor(name: str) -> str:
    """Address of a file out of `VENDOR`; it changes with the content."""
    return url_for("assets.vendor", name=name, v=_content_hash(VENDOR[name]))


def my_orgs() -> list[Org]:
    """The organizations of whoever is signed in, for the switcher."""
    found = visitor()
    return orgs.list_for_user(session(), found.user) if found else []


def duration(span: timedelta | float) -> str:
    """How long something took, in the two largest units: `1 min 12 s`. A number is seconds."""
    seconds = round(span.total_seconds() if isinstance(span, timedelta) else span)
    if seconds < 60:
        return f"{seconds} s"
    for (size, unit), (smaller, small_unit) in zip(_UNITS, (*_UNITS[1:], (1, "s")), strict=True):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{seconds} s"


def ago(moment: datetime) -> str:
    """A moment as people say it: `5 min ago`, `in 2 h`."""
    seconds = (utcnow() - moment).total_seconds()
    # No finer than minutes, or every live part would change all the time.
    if abs(seconds) < 60:
        return "just now" if seconds >= 0 else "in a moment"
    if seconds > 0:
        size, unit = _unit_of(seconds)
        return f"{int(seconds // size)} {unit} ago"
    # What lies ahead is rounded: two days that were given a moment ago are not "in 1 d".
    ahead = 60 * round(-seconds / 60)
    size, unit = _unit_of(ahead)
    return f"in {round(ahead / size)} {unit}"


def _unit_of(seconds: float) -> tuple[int, str]:
    return next((size, unit) for size, unit in _UNITS if seconds >= size)


def exact(moment: datetime) -> str:
    """A moment to the second, in UTC."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def short_digest(digest: str) -> str:
    """Enough of a digest to tell it from others: its first twelve digits."""
    return digest.removeprefix("sha256:")[:12]


def words(name: str) -> str:
    """A state's name as words: `rolled_back` reads `rolled back`."""
    return name.replace("_", " ")


@cache
def _content_hash(path: Path) -> str:
    # A checkout without `npm ci` still answers, without the looks.
    return hashlib.sha256(path.read_bytes()).hexdigest()[:10] if path.exists() else "missing"
