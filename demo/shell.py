"""A Python shell with the application context, a database session and the models. Used by `make shell`."""

from __future__ import annotations

import code
import os
import rlcompleter
from typing import Any

import sqlalchemy as sa

from demo.config import load_config
from demo.serve import SERVE_FOLDER, development_environment
from portal import models
from portal.app import create_app
from portal.models import utcnow
from portal.settings import Settings
from portal.web.extensions import db


def open_shell() -> None:
    """Open the shell on the database of the environment's settings.

    Without `DATABASE_URL` and `DATA_DIR` the shell uses the data of `make serve`, if there is any.
    """
    if not {"DATABASE_URL", "DATA_DIR"} & os.environ.keys() and (SERVE_FOLDER / "seeded").exists():
        os.environ.update(development_environment(load_config(SERVE_FOLDER)))
    app = create_app(Settings.from_environment())
    with app.app_context():
        namespace: dict[str, Any] = {name: getattr(models, name) for name in models.__all__}
        namespace |= {"app": app, "session": db.session, "sa": sa, "now": utcnow()}
        _complete_with_tab(namespace)
        banner = f"Database: {db.engine.url!r}\nNames: app, session, sa, now, and all of portal.models. Ctrl-D ends."
        code.interact(banner, local=namespace, exitmsg="")


def _complete_with_tab(namespace: dict[str, Any]) -> None:
    try:
        import readline  # noqa: PLC0415 - some builds of Python lack it
    except ImportError:
        return
    readline.set_completer(rlcompleter.Completer(namespace).complete)
    readline.parse_and_bind("tab: complete")
