"""The pages. A view is four paragraphs: load with access, validate, call one service verb, answer."""

from __future__ import annotations

from flask import Flask

from portal.views import account, admin, auth, org, site
from portal.views.support import authorization

_GROUPS = (site, auth, account, org, admin)


def init_app(app: Flask) -> None:
    """Register every blueprint, behind the rule that a page nobody declared public needs a signed-in user."""
    app.before_request(authorization.require_sign_in)
    for group in _GROUPS:
        for pages in group.BLUEPRINTS:
            app.register_blueprint(pages)
