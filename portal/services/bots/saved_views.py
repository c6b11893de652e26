"""Saved views of the fleet page, which all operators share. Used by the fleet page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import urlencode

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from portal.models import EventTag, SavedView, User
from portal.services import events
from portal.services.errors import ConflictError, InvalidError, NotFoundError

MAX_VIEWS = 50
MAX_NAME_LENGTH = 60
_MAX_QUERY_LENGTH = 1000


def encode(url_args: Mapping[str, str]) -> str:
    """Return the query string of a view with these arguments."""
    return urlencode(url_args)


def list_views(session: Session) -> Sequence[SavedView]:
    """List all views by name."""
    return session.scalars(sa.select(SavedView).order_by(SavedView.name)).all()


def save_view(session: Session, name: str, url_args: Mapping[str, str], *, now: datetime, actor: User) -> SavedView:
    """Save the filters of the fleet page under a name. A view with the same name is replaced.

    Args:
        session: a writing transaction.
        name: the name.
        url_args: the arguments of the page's URL.
        now: the moment.
        actor: the operator.

    Raises:
        InvalidError: the name is empty or too long, or the arguments are.
        ConflictError: there are `MAX_VIEWS` views, or another operator saves the same name at this moment.
    """
    name = name.strip()
    if not name or len(name) > MAX_NAME_LENGTH:
        raise InvalidError(f"Enter a name of at most {MAX_NAME_LENGTH} characters.", "name")
    query = encode(url_args)
    if not query or len(query) > _MAX_QUERY_LENGTH:
        raise InvalidError("Choose a filter or an order first, then save the view.", "name")
    views = list_views(session)
    view = next((found for found in views if found.name == name), None)
    if view is None:
        if len(views) >= MAX_VIEWS:
            raise ConflictError(f"There are {MAX_VIEWS} saved views. Delete one first.")
        view = _add(session, SavedView(name=name, query=query, created_by=actor.id, created_at=now))
    view.query = query
    events.record(session, EventTag.VIEW_SAVED, actor=actor, data={"name": name, "query": query})
    return view


def delete_view(session: Session, view_id: str, *, actor: User) -> SavedView:
    """Delete a view and return it.

    Raises:
        NotFoundError: the view does not exist.
    """
    view = session.get(SavedView, view_id)
    if view is None:
        raise NotFoundError("This view does not exist.")
    session.delete(view)
    events.record(session, EventTag.VIEW_DELETED, actor=actor, data={"name": view.name})
    return view


def _add(session: Session, view: SavedView) -> SavedView:
    try:
        with session.begin_nested():
            session.add(view)
    except IntegrityError:
        raise ConflictError(f"Another operator saved a view named {view.name}. Try again.") from None
    return view
