"""Pages of the signed-in user's own account. Used by `portal.views`."""

from __future__ import annotations

from portal.views.account import deletion, email_change, profile

BLUEPRINTS = (deletion.pages, email_change.pages, profile.pages)
