"""Rendering of emails as text and as HTML from one template each. Used by the sender.

The template of an email names blocks and macros; `templates/mail/text` and `templates/mail/html` define what they
look like in each format.
"""

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
_LINE_WIDTH = 72
_WORD_JOINER = "\N{WORD JOINER}"


def render(email: Email, about: Mapping[str, str], kind: str) -> str:
    """Render the body of an email.

    Args:
        email: template, subject and values.
        about: the values every email has: `product` (the portal's name) and `home` (its address).
        kind: `text` or `html`.

    Returns:
        The body.
    """
    names = {key: _to_safe_line(name) for key, name in email.names.items()}
    template = _environment(kind).get_template(f"{email.template}.jinja")
    return template.render(names, **email.facts, **about, subject=render_subject(email))


def render_subject(email: Email) -> str:
    """Return the subject as one safe line."""
    return _to_safe_line(email.subject)


def format_moment(moment: datetime) -> str:
    """Format a moment as in `21 July 2026 at 14:05 UTC`."""
    return f"{moment.day} {moment:%B %Y} at {moment:%H:%M} UTC"


def _to_safe_line(text: str) -> str:
    """Return text as one line that mail programs do not turn into links.

    A word joiner, which is invisible, separates the parts of anything that could be an address.
    """
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return re.sub(r"(?<=\w)([.:@])(?=[\w/])", rf"\1{_WORD_JOINER}", line)


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
        _LINE_WIDTH,
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
