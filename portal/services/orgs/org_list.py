"""Lists of all organizations, with their numbers of people and bots. Used by admin pages and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, contains_eager

from portal.models import Bot, BotPhase, Membership, MembershipState, Org, OrgState, TenantUpdateConfig, User
from portal.services import fleet_settings
from portal.services.errors import NotFoundError
from portal.services.orgs import update_preferences
from portal.services.orgs.update_preferences import Preferences
from portal.services.paging import Page, load_page

ORGS_PER_PAGE = 50


@dataclass(frozen=True)
class OrgRow:
    """One row of the list."""

    org: Org
    people: int
    bots: int
    preferences: Preferences


def search_orgs(session: Session, text: str = "", state: OrgState | None = None, page: int = 1) -> Page[OrgRow]:
    """List organizations by name, one page at a time.

    Args:
        session: the transaction.
        text: a part of the name or slug, or of the owner's name or email address; empty for all organizations.
        state: only organizations in this state; None for all except deleted ones.
        page: the page number, from 1; a number beyond the last page gives the last page.
    """
    in_state = Org.state == state if state else Org.state != OrgState.DELETED
    query = sa.select(Org).join(Org.owner).where(in_state, _matches(text.strip()))
    query = query.options(contains_eager(Org.owner)).order_by(sa.func.lower(Org.name), Org.id)
    return load_page(session, query, page, ORGS_PER_PAGE, lambda found: _build_rows(session, found))


def get_org(session: Session, org_id: str) -> OrgRow:
    """Return the row of an organization, which may be deleted.

    Raises:
        NotFoundError: there is no such organization.
    """
    org = session.get(Org, org_id, populate_existing=True)
    if org is None:
        raise NotFoundError("There is no such organization.")
    return _build_rows(session, [org])[0]


def get_by_slug(session: Session, slug: str) -> Org:
    """Return the organization with that slug, which may be deleted. Used by the command line.

    Raises:
        NotFoundError: there is no such organization.
    """
    org = session.scalar(sa.select(Org).where(Org.slug == slug))
    if org is None:
        raise NotFoundError(f"There is no organization {slug!r}. `flotilla orgs list` lists all organizations.")
    return org


def _matches(text: str) -> sa.ColumnElement[bool]:
    if not text:
        return sa.true()
    columns = (Org.name, Org.slug, User.name, User.email)
    return sa.or_(*(column.icontains(text, autoescape=True) for column in columns))


def _build_rows(session: Session, found: Sequence[Org]) -> list[OrgRow]:
    ids = [org.id for org in found]
    active = Membership.org_id.in_(ids) & (Membership.state == MembershipState.ACTIVE)
    people = _count_by_org(session, sa.select(Membership.org_id, sa.func.count()).where(active))
    bots = _count_by_org(
        session, sa.select(Bot.org_id, sa.func.count()).where(Bot.org_id.in_(ids), Bot.phase != BotPhase.REMOVED)
    )
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


def _count_by_org(session: Session, query: sa.Select[str, int]) -> dict[str, Any]:
    return dict(session.execute(query.group_by(query.selected_columns[0])).all())
