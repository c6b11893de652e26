"""Flask's extensions, without an application."""

from __future__ import annotations

from pathlib import Path

from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

from portal.models import Base

ROOT = Path(__file__).resolve().parent.parent
"""The project's folder, which holds templates, static files and migrations."""

db = SQLAlchemy(metadata=Base.metadata)
migrate = Migrate(directory=str(ROOT / "migrations"), db=db)
