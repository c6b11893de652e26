"""Flask extensions, not yet bound to an application. Used by `create_app` and the modules of `portal.web`."""

from __future__ import annotations

from flask_limiter import Limiter
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_wtf.csrf import CSRFProtect

from portal.models import Base
from portal.paths import ROOT
from portal.web.client_address import current_network

db = SQLAlchemy(metadata=Base.metadata)
migrate = Migrate(directory=str(ROOT / "migrations"), db=db)
csrf = CSRFProtect()
limiter = Limiter(current_network, in_memory_fallback_enabled=True)
"""Counts in Redis, or in the memory of the process while Redis cannot be reached."""
