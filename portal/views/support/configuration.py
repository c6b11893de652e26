"""Access to the configuration of the running portal. Used by views."""

from __future__ import annotations

from flask import current_app

from portal.rules.allowlist import Allowlist
from portal.settings import Settings


def current_settings() -> Settings:
    """Return the settings of this portal."""
    found: Settings = current_app.extensions["settings"]
    return found


def current_allowlist() -> Allowlist:
    """Return the allowlist of images that may run on this platform."""
    return Allowlist.parse(current_settings().fleet_image_allowlist)
