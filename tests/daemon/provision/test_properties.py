"""Properties of the sync under random changes, failures, updates and restores, for bots with and without versions.

- In the end the bot has exactly the desired members.
- No user regains a role after the removal was observed, until the user joins again.
- Each call carries the desired role and version of the moment at which it was built.
- A restore of the bot's data makes all observations unknown.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from portal.database import Database
from portal.models import BotState, MembershipRole, SyncRole, SyncState
from portal.models.encrypted import use_keys
from portal.rules import backoff
from tests.conftest import SECRET_KEY
from tests.daemon.provision.toy_bot import Data, Received, Trouble, running_toy_bot
from tests.daemon.provision.world import IS_LONG_RUN, SyncWorld
from tests.support.databases import SqliteDatabase

PEOPLE = ("bob", "carol", "dave")
EXAMPLES = 300 if IS_LONG_RUN else 30
FAST_TROUBLES = [trouble for trouble in Trouble if trouble not in {Trouble.HANG, Trouble.HANG_AFTER, Trouble.DRIP}]

people = st.sampled_from(PEOPLE)
roles = st.sampled_from(MembershipRole)


class MemberSyncMachine(RuleBasedStateMachine):
    """One bot and three people. The rules change either side, and let calls succeed or fail."""

    source: SqliteDatabase
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.snapshot: Data | None = None
        self.troubles: list[Trouble | None] = []
        self.outdated_calls: list[Received] = []

    @initialize(knows_versions=st.booleans(), lists_members=st.booleans())
    def start(self, knows_versions: bool, lists_members: bool) -> None:
        """Start the bot."""
        # SQLite would take the write-ahead log of an earlier example for its own.
        folder = Path(self.stack.enter_context(TemporaryDirectory(dir=self.folder)))
        url = self.stack.enter_context(self.source.empty(folder))
        database = Database(url)
        self.stack.callback(database.dispose)
        options = {"knows_versions": knows_versions, "lists_members": lists_members}
        self.toy = self.stack.enter_context(running_toy_bot(**options))
        self.toy.choose_trouble = lambda _path: self.troubles.pop() if self.troubles else None
        self.toy.on_call = self.check_call
        self.world = SyncWorld(database, self.toy)
        self.users = {name: self.world.add_user(name) for name in PEOPLE}

    def check_call(self, call: Received) -> None:
        """Check that a call carries the desired state. Nothing changes between its building and this moment."""
        row = self.world.find_row(call.user_id)
        if "/members/" in call.path and row is not None:  # unknown members have no row
            sent = (call.body["version"], call.body.get("role", "none"))
            if sent != (row.desired_version, row.desired_role):
                self.outdated_calls.append(call)

    @rule(name=people, role=roles)
    def join(self, name: str, role: MembershipRole) -> None:
        """A person joins, or gets a higher role."""
        self.world.join(self.users[name], role)

    @rule(name=people, role=roles)
    def change_role(self, name: str, role: MembershipRole) -> None:
        """The role of a member changes."""
        if self.world.role_of(self.users[name]) is not None:
            self.world.set_role(self.users[name], role)

    @rule(name=people)
    def remove(self, name: str) -> None:
        """A member is removed."""
        if self.world.role_of(self.users[name]) is not None:
            self.world.remove(self.users[name])

    @rule(troubles=st.lists(st.none() | st.sampled_from(FAST_TROUBLES), max_size=4))
    def sync_with_troubles(self, troubles: list[Trouble | None]) -> None:
        """Calls are sent, and some fail."""
        self.troubles = list(troubles)
        self.world.skip_waiting()
        self.world.sync()
        self.troubles = []

    @rule()
    def take_snapshot(self) -> None:
        """An update archives the volumes of the bot."""
        self.snapshot = self.toy.snapshot()

    @precondition(lambda self: self.snapshot is not None)
    @rule()
    def roll_back(self) -> None:
        """A rollback restores the volumes."""
        self.world.change_bot(epoch=self.world.bot().epoch + 1)
        self.toy.restore(self.snapshot or Data())
        self.snapshot = None

    @rule(user=people, role=st.sampled_from(["member", "owner", None]))
    def tamper(self, user: str, role: str | None) -> None:
        """Someone changes the members inside the bot, which only a bot that lists them can reveal."""
        company = self.world.bot().company_id
        is_running = self.world.bot().state is BotState.RUNNING
        if not (is_running and self.toy.lists_members and company in self.toy.data.members):
            return
        members = self.toy.data.members[company]
        if role is None:
            members.pop(self.users[user], None)
        else:
            members[self.users[user]] = role
        self.world.let_reconcile()
        self.world.skip_waiting()
        self.world.sync()

    @rule(state=st.sampled_from([BotState.RUNNING, BotState.UNHEALTHY]))
    def change_state(self, state: BotState) -> None:
        """The bot becomes unhealthy or healthy."""
        self.world.change_bot(state=state)

    @invariant()
    def observed_removals_hold(self) -> None:
        """A user whose removal was observed in this epoch is not in the bot."""
        if not hasattr(self, "world"):
            return
        epoch, inside = self.world.bot().epoch, self.world.in_bot()
        for user_id in self.users.values():
            row = self.world.find_row(user_id)
            if row is not None and (row.state, row.observed_epoch) == (SyncState.SYNCED, epoch):
                assert inside.get(user_id, SyncRole.NONE) == row.desired_role

    def teardown(self) -> None:
        """In the end, the bot has the desired members."""
        if hasattr(self, "world"):
            self.world.change_bot(state=BotState.RUNNING)
            self.world.let_reconcile()
            self.world.settle()
            assert self.outdated_calls == []
            assert self.world.in_bot() == self.world.desired()
        self.stack.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_random_histories_end_in_the_desired_state(
    sqlite: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_keys(SECRET_KEY)
    monkeypatch.setattr(backoff, "LONGEST_DELAY", backoff.FIRST_DELAY / 1000)
    machine = type("Machine", (MemberSyncMachine,), {"source": sqlite, "folder": tmp_path})
    limits = settings(
        max_examples=EXAMPLES, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=limits)
