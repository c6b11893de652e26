"""Loading of visits: which rows lead to which facts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from portal.database import Database
from portal.models import (
    Bot,
    BotPhase,
    BotState,
    BotSync,
    DesiredState,
    Membership,
    MembershipState,
    MemberSync,
    Org,
    OrgState,
    Provisioning,
    Release,
    Step,
    UpdateState,
    User,
    UserSession,
    utcnow,
)
from portal.rules.bot_access import Access, decide
from portal.rules.roles import SyncRole
from portal.services.accounts import sessions
from portal.services.gateway import visits
from portal.services.gateway.visits import Visit
from portal.tokens import fingerprint
from tests import factories
from tests.support.cast import Cast
from tests.support.scene import Scene


class Visitor:
    """Bob with a session at the host of the first bot."""

    def __init__(self, database: Database, cast: Cast, scene: Scene) -> None:
        """Start the session."""
        self.database, self.bob, self.bot_id = database, cast.people["bob"], scene.bots[0]
        with database.transaction() as session:
            bob, bot = session.get_one(User, self.bob), session.get_one(Bot, self.bot_id)
            self.token = factories.gateway_session(session, bob, bot)

    def visit(self, seconds: float = 0) -> Visit | None:
        """Load the visit as it is some seconds later."""
        key = fingerprint(self.token)
        with self.database.reading() as session:
            return visits.load_visits(session, [key, "unknown"], utcnow() + timedelta(seconds=seconds)).get(key)

    def access(self) -> Access | None:
        """Decide about the visit; None if the session is not valid."""
        visit = self.visit()
        return decide(visit.facts) if visit else None


@pytest.fixture
def visitor(database: Database, cast: Cast, scene: Scene) -> Visitor:
    """Return Bob at the first bot."""
    return Visitor(database, cast, scene)


def test_a_visit_names_person_and_bot(visitor: Visitor, cast: Cast) -> None:
    visit = visitor.visit()
    assert visit is not None
    assert (visit.user_id, visit.email, visit.name) == (visitor.bob, "bob@example.com", "Bob")
    assert (visit.bot_id, visit.subdomain, visit.org_id) == (visitor.bot_id, "paperclip-1", cast.org_id)
    assert (visit.address, visit.header_prefix) == ("127.0.0.1:20001", "x-platform-user")
    assert visit.facts.role is SyncRole.MEMBER
    assert visit.facts.sync is None
    assert visit.concerns({visitor.bob})
    assert visit.concerns({cast.org_id, "other"})
    assert not visit.concerns({cast.people["alice"]})


def set_columns(**values: object) -> Callable[[Session, Visitor], None]:
    """Return a change of the bot."""

    def change(session: Session, visitor: Visitor) -> None:
        for name, value in values.items():
            setattr(session.get_one(Bot, visitor.bot_id), name, value)

    return change


@pytest.mark.parametrize(
    ("state", "address"),
    [
        (BotState.RUNNING, "127.0.0.1:20001"),
        (BotState.UNHEALTHY, "127.0.0.1:20001"),
        (BotState.UNKNOWN, "127.0.0.1:20001"),
        (BotState.STOPPED, None),
        (BotState.MISSING, None),
    ],
)
def test_a_container_that_does_not_run_has_no_address(
    visitor: Visitor, database: Database, state: BotState, address: str | None
) -> None:
    """The engine may give its address to the container of another organization."""
    with database.transaction() as session:
        set_columns(state=state)(session, visitor)
    visit = visitor.visit()
    assert visit is not None
    assert visit.address == address


def remove_bob(session: Session, visitor: Visitor) -> None:
    """Remove Bob's membership."""
    of_bob = Membership.user_id == visitor.bob
    session.execute(sa.update(Membership).where(of_bob).values(state=MembershipState.REMOVED))


def delete_org(session: Session, visitor: Visitor) -> None:
    """Let the deletion of the organization begin."""
    session.get_one(Bot, visitor.bot_id).org.state = OrgState.DELETING


def disable_bob(session: Session, visitor: Visitor) -> None:
    """Disable Bob's account."""
    session.get_one(User, visitor.bob).disabled_at = utcnow()


def end_session(session: Session, visitor: Visitor) -> None:
    """End Bob's sessions in the portal."""
    sessions.end_all(session, visitor.bob, utcnow(), actor=None)


def sync(
    observed: SyncRole | None, epoch: int = 1, desired: int = 2, *, has_company: bool = True
) -> Callable[[Session, Visitor], None]:
    """Return a change that switches the member sync on."""

    def change(session: Session, visitor: Visitor) -> None:
        bot = session.get_one(Bot, visitor.bot_id)
        bot.company_id = "company" if has_company else None
        row = session.get(BotSync, bot.id) or BotSync(bot_id=bot.id)
        row.provisioning = Provisioning.MANAGED
        session.add(row)
        session.add(
            MemberSync(
                bot_id=bot.id,
                user_id=visitor.bob,
                desired_version=desired,
                desired_role=SyncRole.MEMBER,
                observed_role=observed,
                observed_version=desired,
                observed_epoch=epoch,
            )
        )

    return change


def update(state: UpdateState, step: Step) -> Callable[[Session, Visitor], None]:
    """Return a change that adds an update in this step."""

    def change(session: Session, visitor: Visitor) -> None:
        release = session.scalars(sa.select(Release)).first()
        assert release is not None
        rollout = factories.rollout(session, release)
        ended = None if state is UpdateState.RUNNING else utcnow()
        bot = session.get_one(Bot, visitor.bot_id)
        factories.update(session, rollout, bot, state=state, step=step, ended_at=ended)

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (set_columns(), Access.ENTER),
        (remove_bob, Access.NOT_FOUND),
        (delete_org, Access.NOT_FOUND),
        (disable_bob, None),
        (end_session, None),
        (set_columns(phase=BotPhase.CREATING), Access.PROVISIONING),
        (set_columns(phase=BotPhase.REMOVING), Access.REMOVING),
        (set_columns(phase=BotPhase.REMOVED), Access.NOT_FOUND),
        (set_columns(desired_state=DesiredState.STOPPED), Access.STOPPED),
        (set_columns(applied_state=DesiredState.STOPPED), Access.STOPPED),
        (sync(SyncRole.MEMBER), Access.ENTER),
        (sync(SyncRole.MEMBER, has_company=False), Access.PROVISIONING),
        (sync(None), Access.PROVISIONING),
        (sync(SyncRole.ADMIN), Access.CHANGING),
        (sync(SyncRole.MEMBER, epoch=0), Access.CHANGING),
        (sync(SyncRole.MEMBER, epoch=0, desired=1), Access.ENTER),
        (update(UpdateState.RUNNING, Step.PRECREATE), Access.ENTER),
        (update(UpdateState.RUNNING, Step.DRAIN), Access.UPDATING),
        (update(UpdateState.RUNNING, Step.HEALTH), Access.UPDATING),
        (update(UpdateState.RUNNING, Step.ROLLBACK), Access.UPDATING),
        (update(UpdateState.UPDATED, Step.COMMIT), Access.ENTER),
        (update(UpdateState.ROLLED_BACK, Step.ROLLBACK), Access.ENTER),
    ],
)
def test_rows_decide(visitor: Visitor, change: Callable[[Session, Visitor], None], expected: Access | None) -> None:
    with visitor.database.transaction() as session:
        change(session, visitor)
    assert visitor.access() is expected


def test_every_step_is_in_or_out_of_service() -> None:
    in_service = set(Step) - set(visits.OUT_OF_SERVICE)
    assert in_service == {Step.CLAIM, Step.PREFLIGHT, Step.PULL, Step.CAPTURE, Step.PRECREATE}


def test_a_session_ends_with_the_time_limits_of_the_portal_session(visitor: Visitor) -> None:
    assert visitor.visit(seconds=sessions.IDLE_TIMEOUT.total_seconds() - 60) is not None
    assert visitor.visit(seconds=sessions.IDLE_TIMEOUT.total_seconds() + 60) is None
    with visitor.database.transaction() as session:
        session.execute(sa.update(UserSession).values(last_seen_at=utcnow() + timedelta(days=8)))
    assert visitor.visit(seconds=sessions.MAX_AGE.total_seconds() + 60) is None


def test_the_owner_has_the_rights_of_the_owner(database: Database, cast: Cast, scene: Scene) -> None:
    with database.transaction() as session:
        bot, carol = session.get_one(Bot, scene.bots[0]), session.get_one(User, cast.people["carol"])
        alice, root = session.get_one(User, cast.people["alice"]), session.get_one(User, cast.people["root"])
        tokens = [factories.gateway_session(session, person, bot) for person in (alice, carol, root)]
        owned = session.get_one(Org, cast.org_id).owner_id
        assert owned == alice.id
        loaded = visits.load_visits(session, [fingerprint(token) for token in tokens], utcnow())
    roles = [loaded[fingerprint(token)].facts.role for token in tokens]
    assert roles == [SyncRole.OWNER, SyncRole.ADMIN, SyncRole.NONE]
