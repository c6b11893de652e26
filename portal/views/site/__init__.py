"""Endpoints of the whole site: home page, health check, vendor assets. Used by `portal.views`."""

from __future__ import annotations

from portal.views.site import assets, healthz, home

BLUEPRINTS = (assets.pages, healthz.pages, home.pages)
