"""Entry point of the web application: `portal.wsgi:create_wsgi()`. Used by gunicorn and the `flask` command."""

from __future__ import annotations

import sys

from flask import Flask

from portal import logs
from portal.app import create_app
from portal.data_dir import restrict_new_files
from portal.settings import Settings, SettingsError


def create_wsgi() -> Flask:
    """Create the web application from the environment; exit with a list of problems if the settings are invalid."""
    restrict_new_files()
    try:
        settings = Settings.from_environment()
        logs.configure(settings)
        return create_app(settings)
    except SettingsError as error:
        sys.exit(f"Flotilla cannot start with these settings:\n{error}")
