"""Endpoints of the whole site: home page, health check, vendor assets, keys of assertions. Used by `portal.views`."""

from __future__ import annotations

from portal.views.site import assertion_keys, assets, healthz, home

BLUEPRINTS = (assertion_keys.pages, assets.pages, healthz.pages, home.pages)
