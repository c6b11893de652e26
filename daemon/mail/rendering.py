"""Letters as text and as HTML, both from one template: only the layout and its parts differ."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from datetime import datetime
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from daemon.mail.emails import Email
from portal.paths import ROOT

_FOLDER = ROOT / "templates" / "mail"
_WIDTH = 72
_INVISIBLE = "\N{WORD JOINER}"


def render(email: Email, about: Mapping[str, str], kind: str) -> str:
    """The body of a letter.

    Args:
        letter: what it says.
        about: what every mail mentions: `product` and `home`, the portal's name and address.
        kind: `text` or `html`.
    """
    names = {key: _one_line(name) for key, name in email.names.items()}
    template = _environment(kind).get_template(f"{email.template}.jinja")
    return template.render(names, **email.facts, **about, subject=subject(email))


def subject(email: Email) -> str:
    """The subject as one line, whatever people typed into their names."""
    return _one_line(email.subject)


def format_moment(moment: datetime) -> str:
    """A moment in words, such as `21 July 2026 at 14:05 UTC`."""
    return f"{moment.day} {moment:%B %Y} at {moment:%H:%M} UTC"


def _one_line(text: str) -> str:
    """One line in which no mail program finds an address to make a link of."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return re.sub(r"(?<=\w)([.:@])(?=[\w/])", rf"\1{_INVISIBLE}", line)


@cache
def _environment(kind: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([_FOLDER / kind, _FOLDER]),
        autoescape=kind == "html",  # noqa: S701 - plain text has nothing to escape
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(day_and_hour=format_moment, wrap=_wrap)
    return environment


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()),
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
