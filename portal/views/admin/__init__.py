"""Pages for operators, below /admin: their blueprints. Used by `portal.views`."""

from __future__ import annotations

from portal.views.admin import (
    alerts,
    bot_template,
    events,
    fleet,
    mail,
    nodes,
    orgs,
    overview,
    releases,
    rollouts,
    settings,
    sync,
    upstream,
    users,
)

BLUEPRINTS = (
    alerts.pages,
    bot_template.pages,
    events.pages,
    fleet.pages,
    mail.pages,
    nodes.pages,
    orgs.pages,
    overview.pages,
    releases.pages,
    rollouts.pages,
    settings.pages,
    sync.pages,
    upstream.pages,
    users.pages,
)
