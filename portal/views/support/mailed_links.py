"""Pages about mailed one-time links. Used by sign-up, password reset and email change."""

from __future__ import annotations

from flask import render_template, url_for
from flask import session as visitor_cookie
from werkzeug.wrappers import Response

from portal.services.accounts import one_time_tokens
from portal.web import htmx

_MAILED_TO = "mailed_to"
_LIFETIME_MINUTES = int(one_time_tokens.LIFETIME.total_seconds() // 60)


def redirect_to_sent(email: str, endpoint: str) -> Response:
    """Redirect to the page that says where the mail was sent. The answer is the same for emails without an account.

    Args:
        email: the email as the visitor typed it.
        endpoint: the endpoint of that page.
    """
    visitor_cookie[_MAILED_TO] = email
    return htmx.go_to(url_for(endpoint))


def render_sent_page(form_url: str) -> str:
    """Render the page that says where the mail was sent.

    Args:
        form_url: the URL of the form that requests another mail.
    """
    email = visitor_cookie.get(_MAILED_TO)
    return render_template("auth/mailed.html", email=email, form_url=form_url, minutes=_LIFETIME_MINUTES)


def render_dead_link(form_url: str) -> tuple[str, int]:
    """Render the page for a link that is not valid. The page does not say whether it is used, expired or unknown.

    Args:
        form_url: the URL of the form that requests another link.
    """
    return render_template("auth/dead_link.html", form_url=form_url, minutes=_LIFETIME_MINUTES), 410
