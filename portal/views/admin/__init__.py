"""Pages for operators, below /admin: their blueprints. Used by `portal.views`."""

from __future__ import annotations

from portal.views.admin import (
    alerts,
    bot_template,
    events,
    fleet,
    fleet_actions,
    mail,
    new_rollout,
    nodes,
    orgs,
    overview,
    releases,
    rollout_reports,
    rollouts,
    search,
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
    fleet_actions.pages,
    mail.pages,
    new_rollout.pages,
    nodes.pages,
    orgs.pages,
    overview.pages,
    releases.pages,
    rollout_reports.pages,
    rollouts.pages,
    search.pages,
    settings.pages,
    sync.pages,
    upstream.pages,
    users.pages,
)
