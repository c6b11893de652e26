"""The factory of the web application. Used by `portal.wsgi`, tests and the demo."""

from __future__ import annotations

from flask import Flask
from redis import Redis

from portal import views
from portal.data_dir import prepare_data_dir
from portal.database import engine_options, prepare
from portal.models.encrypted import use_keys
from portal.paths import ROOT
from portal.settings import Settings
from portal.web import (
    access_log,
    client_address,
    compression,
    errors,
    htmx,
    refusals,
    request_context,
    security,
    session_cookie,
    static_files,
    templating,
    unit_of_work,
)
from portal.web.extensions import db, limiter, migrate


def create_app(settings: Settings) -> Flask:
    """Create the web application for the given settings.

    Raises:
        SettingsError: other accounts of the machine can read the data folder.
    """
    app = Flask(
        "portal",
        root_path=str(ROOT / "portal"),
        template_folder=str(ROOT / "templates"),
        static_folder=str(ROOT / "static"),
    )
    app.extensions["settings"] = settings
    app.config.update(
        SECRET_KEY=settings.secret_key,
        SECRET_KEY_FALLBACKS=list(settings.secret_key_fallbacks),
    )
    # The order matters: `before_request` functions run in this order, `after_request` functions in reverse order.
    compression.init_app(app)
    _init_database(app, settings)
    _init_redis(app, settings)
    client_address.init_app(app, settings)
    request_context.init_app(app)
    refusals.init_app(app)
    access_log.init_app(app)
    unit_of_work.init_app(app)
    session_cookie.init_app(app)
    security.init_app(app, settings)
    static_files.init_app(app)
    app.after_request(htmx.carry_flashes)
    errors.init_app(app)
    templating.init_app(app, settings)
    views.init_app(app)
    return app


def _init_database(app: Flask, settings: Settings) -> None:
    use_keys(settings.secret_key, settings.secret_key_fallbacks)
    prepare_data_dir(settings)
    app.config.update(
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings.database_url),
    )
    db.init_app(app)
    migrate.init_app(app)
    with app.app_context():
        prepare(db.engine)


def _init_redis(app: Flask, settings: Settings) -> None:
    # Short timeouts, so that requests do not wait for an unreachable Redis.
    options = {"socket_timeout": 2, "socket_connect_timeout": 2}
    app.extensions["redis"] = Redis.from_url(settings.redis_url, **options)
    app.config.update(
        RATELIMIT_STORAGE_URI=settings.redis_url.replace("unix://", "redis+unix://"),
        RATELIMIT_STORAGE_OPTIONS=options,
    )
    limiter.init_app(app)
