"""Pages of one organization, under /o/<slug>, and the list of a user's organizations, under /orgs."""

from __future__ import annotations

from portal.views.org import (
    audit_log,
    bot,
    bot_logs,
    bulk_invites,
    home,
    invites,
    member_sync,
    opening,
    org_list,
    ownership,
    settings,
    team,
    update_all,
)

BLUEPRINTS = (
    audit_log.pages,
    bot.pages,
    bot_logs.pages,
    bulk_invites.pages,
    home.pages,
    invites.pages,
    member_sync.pages,
    opening.pages,
    org_list.pages,
    ownership.pages,
    settings.pages,
    team.pages,
    update_all.pages,
)
