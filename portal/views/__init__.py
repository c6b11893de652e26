"""The pages. A view is four paragraphs: load with access, validate, call one service verb, answer."""

from __future__ import annotations

from flask import Flask

from portal.views import (
    access,
    account,
    account_address,
    account_deletion,
    admin_events,
    admin_fleet,
    admin_mail,
    admin_nodes,
    admin_orgs,
    admin_overview,
    admin_releases,
    admin_rollouts,
    admin_settings,
    admin_users,
    assets,
    audit,
    auth,
    bot,
    health,
    home,
    invitation,
    invites,
    org,
    org_settings,
    orgs,
    ownership,
    recovery,
    signup,
    team,
)

_BLUEPRINTS = (
    account,
    account_address,
    account_deletion,
    admin_events,
    admin_fleet,
    admin_mail,
    admin_nodes,
    admin_orgs,
    admin_overview,
    admin_releases,
    admin_rollouts,
    admin_settings,
    admin_users,
    assets,
    audit,
    auth,
    bot,
    health,
    home,
    invitation,
    invites,
    org,
    org_settings,
    orgs,
    ownership,
    recovery,
    signup,
    team,
)


def init_app(app: Flask) -> None:
    """Register every blueprint, behind the rule that a page nobody declared public needs a signed-in user."""
    app.before_request(access.refuse_strangers)
    for module in _BLUEPRINTS:
        app.register_blueprint(module.pages)
