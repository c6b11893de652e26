"""The web application's factory."""

from __future__ import annotations

from flask import Flask

from portal.database import engine_options, prepare
from portal.extensions import ROOT, db, migrate
from portal.models.encrypted import use_keys
from portal.settings import Settings


def create_app(settings: Settings) -> Flask:
    """Build the portal for one configuration."""
    app = Flask(
        "portal",
        root_path=str(ROOT / "portal"),
        template_folder=str(ROOT / "templates"),
        static_folder=str(ROOT / "static"),
    )
    use_keys(settings.secret_key, settings.secret_key_fallbacks)
    app.config.update(
        SECRET_KEY=settings.secret_key,
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings.database_url),
    )
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    db.init_app(app)
    migrate.init_app(app)
    with app.app_context():
        prepare(db.engine)
    return app
