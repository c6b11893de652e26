"""Organizations as operators see all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager

from portal.models import Bot, Membership, MembershipState, Org, OrgState, TenantUpdateConfig, User
from portal.services import fleet_settings
from portal.services.errors import NotFoundError
from portal.services.orgs import update_preferences
from portal.services.orgs.update_preferences import Preferences
from portal.services.paging import Page, load_page

ORGS_PER_PAGE = 50


@dataclass(frozen=True)
class OrgRow:
    """One organization of a list."""

    org: Org
    people: int
    bots: int
    preferences: Preferences


def search_orgs(session: Session, text: str = "", state: OrgState | None = None, page: int = 1) -> Page[OrgRow]:
    """Look for organizations, by name.

    Args:
        session: the transaction.
        text: part of its name, address, or of its owner's name or address; empty for all.
        state: only those in it; None for all but those that are gone for good.
        page: from 1, of `PER_PAGE` organizations each; beyond the last one it is the last.
    """
    of_state = Org.state == state if state else Org.state != OrgState.DELETED
    query = sa.select(Org).join(Org.owner).where(of_state, _matching(text.strip()))
    query = query.options(contains_eager(Org.owner)).order_by(sa.func.lower(Org.name), Org.id)
    return load_page(session, query, page, ORGS_PER_PAGE, lambda found: _lines(session, found))


def get_org(session: Session, org_id: str) -> OrgRow:
    """One organization, also one that is gone for good.

    Raises:
        NotFoundError: there is none.
    """
    org = session.get(Org, org_id, populate_existing=True)
    if org is None:
        raise NotFoundError("There is no such organization.")
    return _lines(session, [org])[0]


def get_by_slug(session: Session, slug: str) -> Org:
    """The organization with that address.

    Raises:
        NotFoundError: there is none.
    """
    org = session.scalar(sa.select(Org).where(Org.slug == slug))
    if org is None:
        raise NotFoundError(f"There is no organization {slug!r}; `flotilla orgs list` shows all.")
    return org


def _matching(text: str) -> sa.ColumnElement[bool]:
    if not text:
        return sa.true()
    columns = (Org.name, Org.slug, User.name, User.email)
    return sa.or_(*(column.icontains(text, autoescape=True) for column in columns))


def _lines(session: Session, found: Sequence[Org]) -> list[OrgRow]:
    ids = [org.id for org in found]
    active = Membership.org_id.in_(ids) & (Membership.state == MembershipState.ACTIVE)
    people = _by_org(session, sa.select(Membership.org_id, sa.func.count()).where(active))
    bots = _by_org(session, sa.select(Bot.org_id, sa.func.count()).where(Bot.org_id.in_(ids)))
    stored = session.scalars(sa.select(TenantUpdateConfig).where(TenantUpdateConfig.org_id.in_(ids)))
    configs = {config.org_id: config for config in stored}
    defaults = fleet_settings.get_settings(session)
    return [
        OrgRow(
            org=org,
            people=people.get(org.id, 0),
            bots=bots.get(org.id, 0),
            preferences=update_preferences.resolve_preferences(configs.get(org.id), defaults),
        )
        for org in found
    ]


def _by_org(session: Session, query: sa.Select[str, int]) -> dict[str, Any]:
    return dict(session.execute(query.group_by(query.selected_columns[0])).all())
