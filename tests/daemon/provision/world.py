"""A world for tests of the member sync: one organization whose bot is a toy bot, and a clock that can be advanced."""

from __future__ import annotations

import os

import sqlalchemy as sa
from sqlalchemy.orm import Session

from daemon.provision import sync_jobs
from daemon.provision.sync_jobs import Lane
from portal.database import Database
from portal.models import (
    Bot,
    BotState,
    BotSync,
    Event,
    Membership,
    MembershipRole,
    MembershipState,
    MemberSync,
    Node,
    Org,
    Provisioning,
    SyncRole,
    SyncState,
    User,
    utcnow,
)
from portal.services.bots import observations
from portal.services.bots.observations import Observation
from portal.services.orgs import member_sync, memberships, orgs
from tests import factories
from tests.daemon.provision.toy_bot import SECRET, ToyBot

IS_LONG_RUN = os.environ.get("FLOTILLA_TEST_LONG") == "true"
"""Whether tests with random changes make so many that they take minutes."""

LANE = Lane(call_seconds=0.5, parallel=4)


class SyncWorld:
    """An organization with an owner, its bot, and verbs to change and sync them.

    Args:
        database: the database.
        toy: the bot.
        provisioning: how the bot is connected.
    """

    def __init__(self, database: Database, toy: ToyBot, provisioning: Provisioning = Provisioning.MANAGED) -> None:
        self.database = database
        self.toy = toy
        with database.transaction() as session:
            owner = factories.user(session, "alice")
            self.owner_id = owner.id
            self.org_id = factories.org(session, owner).id
            self.node_id = factories.node(session).id
            self.bot_id = self.add_bot(session, toy, provisioning)

    def add_bot(self, session: Session, toy: ToyBot, provisioning: Provisioning = Provisioning.MANAGED) -> str:
        """Add a bot of the organization."""
        org, node = session.get_one(Org, self.org_id), session.get_one(Node, self.node_id)
        bot = factories.bot(
            session, org, node, address=toy.address, provision_secret={"current": SECRET, "next": None}
        )
        session.get_one(BotSync, bot.id).provisioning = provisioning
        member_sync.set_desired_roles_for_bot(session, bot, utcnow())
        return bot.id

    def add_user(self, name: str) -> str:
        """Add a user without an organization."""
        with self.database.transaction() as session:
            return factories.user(session, name).id

    def join(self, user_id: str, role: MembershipRole = MembershipRole.MEMBER) -> None:
        """Add a member, or raise the role of one."""
        with self.database.transaction() as session:
            org, user = session.get_one(Org, self.org_id), session.get_one(User, user_id)
            memberships.add_member(session, orgs.lock_org(session, org), user, role, actor=user, now=utcnow())

    def set_role(self, user_id: str, role: MembershipRole) -> None:
        """Change the role of a member."""
        with self.database.transaction() as session:
            org, row, owner = self._load(session, user_id)
            memberships.change_role(session, org, row.id, role, version=row.version, actor=owner, now=utcnow())

    def remove(self, user_id: str) -> None:
        """Remove a member."""
        with self.database.transaction() as session:
            org, row, owner = self._load(session, user_id)
            memberships.remove_member(session, org, row.id, version=row.version, actor=owner, now=utcnow())

    def role_of(self, user_id: str) -> MembershipRole | None:
        """Return the role of a member, or None for another user."""
        with self.database.reading() as session:
            found = session.scalars(
                sa.select(Membership).where(Membership.org_id == self.org_id, Membership.user_id == user_id)
            ).one_or_none()
            return found.role if found is not None and found.state is MembershipState.ACTIVE else None

    def sync(self, lane: Lane = LANE) -> None:
        """Run both jobs until nothing is due that need not wait."""
        while sync_jobs.sync_node(self.database, self.node_id, lane):
            pass
        sync_jobs.sync_unanswering(self.database, lane)

    def settle(self, rounds: int = 60) -> None:
        """Sync and skip all waiting times until nothing is left to send."""
        for _ in range(rounds):
            self.sync()
            self.skip_waiting()
            if self.is_settled():
                return
        raise AssertionError(self.rows())

    def is_settled(self) -> bool:
        """Whether all rows are observed in the current epoch."""
        with self.database.reading() as session:
            epoch = session.get_one(Bot, self.bot_id).epoch
            rows = session.scalars(sa.select(MemberSync).where(MemberSync.bot_id == self.bot_id)).all()
            sync = session.get_one(BotSync, self.bot_id)
            return sync.reconciled_epoch == epoch and all(
                row.state is SyncState.SYNCED and row.observed_epoch == epoch for row in rows
            )

    def skip_waiting(self) -> None:
        """Let the waiting times of all failed calls and expired claims end."""
        with self.database.transaction() as session:
            session.execute(sa.update(MemberSync).values(next_attempt_at=None))
            session.execute(sa.update(BotSync).values(next_attempt_at=None, next_call_at=None, claimed_until=None))

    def let_reconcile(self) -> None:
        """Make the next reconciliation due."""
        self.change_sync(next_reconcile_at=None)

    def become_healthy(self) -> None:
        """Let the bot be unhealthy, and then be observed as healthy."""
        self.change_bot(state=BotState.UNHEALTHY, container_id="container")
        observation = Observation(self.bot_id, "container", BotState.RUNNING, None, self.toy.address)
        with self.database.transaction() as session:
            observations.record_observations(session, self.node_id, [observation], utcnow())

    def change_bot(self, **values: object) -> None:
        """Change the row of the bot without a service."""
        with self.database.transaction() as session:
            session.execute(sa.update(Bot).where(Bot.id == self.bot_id).values(**values))

    def change_sync(self, **values: object) -> None:
        """Change the row of the bot's sync without a service."""
        with self.database.transaction() as session:
            session.execute(sa.update(BotSync).where(BotSync.bot_id == self.bot_id).values(**values))

    def bot(self) -> Bot:
        """Load the bot."""
        with self.database.reading() as session:
            return session.get_one(Bot, self.bot_id)

    def bot_sync(self) -> BotSync:
        """Load the row of the bot's sync."""
        with self.database.reading() as session:
            return session.get_one(BotSync, self.bot_id)

    def row(self, user_id: str) -> MemberSync:
        """Load the row of a user."""
        row = self.find_row(user_id)
        assert row is not None
        return row

    def find_row(self, user_id: str) -> MemberSync | None:
        """Load the row of a user, or return None."""
        with self.database.reading() as session:
            of_user = (MemberSync.bot_id == self.bot_id, MemberSync.user_id == user_id)
            return session.scalars(sa.select(MemberSync).where(*of_user)).one_or_none()

    def rows(self) -> list[tuple[object, ...]]:
        """Return what matters of all rows, for messages."""
        with self.database.reading() as session:
            rows = session.scalars(sa.select(MemberSync)).all()
            return [
                (row.user_id, row.state, row.desired_role, row.observed_role, row.observed_epoch, row.last_error)
                for row in rows
            ]

    def observed_removals(self) -> list[str]:
        """Return the ids of the users whose removal was observed in the bot's current epoch."""
        query = (
            sa.select(MemberSync.user_id)
            .join(Bot, Bot.id == MemberSync.bot_id)
            .where(
                Bot.id == self.bot_id,
                MemberSync.desired_role == SyncRole.NONE,
                MemberSync.state == SyncState.SYNCED,
                MemberSync.observed_epoch == Bot.epoch,
            )
        )
        with self.database.reading() as session:
            return list(session.scalars(query))

    def desired(self) -> dict[str, str]:
        """Return the desired roles by user id, without removed users."""
        with self.database.reading() as session:
            rows = session.scalars(sa.select(MemberSync).where(MemberSync.bot_id == self.bot_id))
            return {row.user_id: row.desired_role.value for row in rows if row.desired_role is not SyncRole.NONE}

    def in_bot(self) -> dict[str, str]:
        """Return the roles in the bot by user id."""
        return self.toy.roles(self.org_id)

    def paths(self) -> list[str]:
        """Return the last parts of the paths of all calls that the bot has received, and forget the calls."""
        received, self.toy.received = self.toy.received, []
        return [call.path.partition("?")[0].rpartition("/")[2] for call in received]

    def events(self, prefix: str) -> list[Event]:
        """List the events whose tags begin with a prefix, oldest first."""
        with self.database.reading() as session:
            return list(session.scalars(sa.select(Event).where(Event.tag.startswith(prefix)).order_by(Event.id)))

    def _load(self, session: Session, user_id: str) -> tuple[Org, Membership, User]:
        org, owner = session.get_one(Org, self.org_id), session.get_one(User, self.owner_id)
        row = memberships.find_membership(session, org, session.get_one(User, user_id))
        assert row is not None
        return org, row, owner
