"""Endpoints of the whole site: home redirect, health check, vendor assets."""

from __future__ import annotations

from portal.views.site import assets, healthz, home

BLUEPRINTS = (assets.pages, healthz.pages, home.pages)
