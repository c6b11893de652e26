"""Pages for signed-out visitors: sign-up, login, password reset, invite acceptance. Used by `portal.views`."""

from __future__ import annotations

from portal.views.auth import invite_acceptance, login, password_reset, signup

BLUEPRINTS = (invite_acceptance.pages, login.pages, password_reset.pages, signup.pages)
