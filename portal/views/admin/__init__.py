"""Pages for operators, below /admin: their blueprints. Used by `portal.views`."""

from __future__ import annotations

from portal.views.admin import (
    bot_template,
    events,
    fleet,
    mail,
    new_rollout,
    nodes,
    orgs,
    overview,
    releases,
    rollout_reports,
    rollouts,
    settings,
    sync,
    upstream,
    users,
)

BLUEPRINTS = (
    bot_template.pages,
    events.pages,
    fleet.pages,
    mail.pages,
    new_rollout.pages,
    nodes.pages,
    orgs.pages,
    overview.pages,
    releases.pages,
    rollout_reports.pages,
    rollouts.pages,
    settings.pages,
    sync.pages,
    upstream.pages,
    users.pages,
)
