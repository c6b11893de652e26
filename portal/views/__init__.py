"""Pages and fragments of the portal, grouped by domain, and their registration. Used by the application factory.

A view does four things in order: load the resource with an access check, validate the input, call one service
function, and build the response.
"""

from __future__ import annotations

from flask import Flask

from portal.views import account, admin, auth, org, site
from portal.views.support import authorization

_GROUPS = (site, auth, account, org, admin)


def init_app(app: Flask) -> None:
    """Register every blueprint, and require a signed-in user for each endpoint that is not declared public."""
    app.before_request(authorization.require_sign_in)
    for group in _GROUPS:
        for blueprint in group.BLUEPRINTS:
            app.register_blueprint(blueprint)
