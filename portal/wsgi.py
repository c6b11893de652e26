"""Entry point for gunicorn and the `flask` command: `portal.wsgi:create_wsgi()`."""

from __future__ import annotations

import sys

from flask import Flask

from portal import logs
from portal.app import create_app
from portal.settings import Settings, SettingsError


def create_wsgi() -> Flask:
    """The portal configured from the environment; a bad configuration ends the process with the list of problems."""
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.exit(f"Flotilla cannot start with these settings:\n{error}")
    logs.configure(settings)
    return create_app(settings)
