"""What sign-up, forgotten password and change of address share: asking for a mailed link, and links that died."""

from __future__ import annotations

from flask import render_template, url_for
from flask import session as visitor_cookie
from werkzeug.wrappers import Response

from portal.web import htmx

_MAILED_TO = "mailed_to"


def redirect_to_sent(email: str, page: str) -> Response:
    """Go on to the page that says where the mail went: the same one, whether or not the address has an account.

    Args:
        email: as it was typed.
        page: the endpoint of that page.
    """
    visitor_cookie[_MAILED_TO] = email
    return htmx.go_to(url_for(page))


def render_sent_page(again: str) -> str:
    """Say where the mail went, and what to do when it does not come.

    Args:
        again: address of the form to ask once more.
    """
    return render_template("auth/mailed.html", email=visitor_cookie.get(_MAILED_TO), again=again)


def render_dead_link(again: str) -> tuple[str, int]:
    """Tell that a link does not work: used, replaced, too old, or never one of ours; which of them is not told.

    Args:
        again: address of the form to get a new one.
    """
    return render_template("auth/dead_link.html", again=again), 410
