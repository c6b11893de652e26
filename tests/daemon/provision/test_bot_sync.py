"""The sync of a bot: which calls are sent, in which order, and what is recorded when they succeed or fail."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from portal.database import Database
from portal.models import (
    Bot,
    BotPhase,
    BotState,
    BotUpdate,
    DesiredState,
    MembershipRole,
    MemberSync,
    Org,
    Provisioning,
    Release,
    SyncRole,
    SyncState,
    UpdateState,
    User,
    utcnow,
)
from portal.services.account_changes import deletion, disabling, profile
from portal.services.accounts.accounts import Credentials
from portal.services.orgs import memberships, org_deletion, transfers
from portal.services.rollouts import outcomes
from portal.services.syncs import operations, provision_secrets, provisioning
from tests import factories
from tests.daemon.provision.toy_bot import SECRET, Received, ToyBot, Trouble
from tests.daemon.provision.world import SyncWorld


def test_a_new_bot_is_provisioned_and_gets_its_members(world: SyncWorld, toy: ToyBot) -> None:
    bob = world.add_user("bob")
    world.join(bob, MembershipRole.ADMIN)
    world.sync()
    assert world.paths() == ["provision", "add", "add", "members"]
    assert world.in_bot() == {world.owner_id: "owner", bob: "admin"}
    assert world.bot().company_id == f"company-of-{world.org_id}"
    assert world.is_settled()
    world.sync()
    assert world.paths() == []


def test_changes_reach_the_bot_with_the_fitting_calls(world: SyncWorld) -> None:
    bob = world.add_user("bob")
    world.join(bob)
    world.sync()
    world.paths()
    world.set_role(bob, MembershipRole.ADMIN)
    world.sync()
    assert (world.paths(), world.in_bot()[bob]) == (["change-role"], "admin")
    with world.database.transaction() as session:
        profile.rename_user(session, bob, "Robert", utcnow())
    world.sync()
    assert (world.paths(), world.toy.data.names[bob]) == (["add"], "Robert")
    world.remove(bob)
    world.sync()
    assert (world.paths(), world.in_bot()) == (["remove"], {world.owner_id: "owner"})


def test_a_changed_role_and_name_are_sent_together(world: SyncWorld) -> None:
    bob = world.add_user("bob")
    world.join(bob)
    world.sync()
    world.paths()
    with world.database.transaction() as session:
        profile.rename_user(session, bob, "Robert", utcnow())
    world.set_role(bob, MembershipRole.ADMIN)
    world.sync()
    assert world.paths() == ["add"]
    assert (world.in_bot()[bob], world.toy.data.names[bob]) == ("admin", "Robert")


def test_a_transfer_of_ownership_reaches_the_bot(world: SyncWorld) -> None:
    bob = world.add_user("bob")
    world.join(bob)
    world.sync()
    with world.database.transaction() as session:
        org, owner, new = (
            session.get_one(Org, world.org_id),
            session.get_one(User, world.owner_id),
            session.get_one(User, bob),
        )
        transfers.offer_ownership(session, org, bob, actor=owner, now=utcnow())
        transfers.accept_ownership(session, org, actor=new, now=utcnow())
    world.sync()
    assert world.in_bot() == {world.owner_id: "admin", bob: "owner"}


def test_a_member_who_leaves_is_removed(world: SyncWorld) -> None:
    bob = world.add_user("bob")
    world.join(bob)
    world.sync()
    with world.database.transaction() as session:
        org, user = session.get_one(Org, world.org_id), session.get_one(User, bob)
        memberships.leave_org(session, org, actor=user, now=utcnow())
    world.sync()
    assert world.in_bot() == {world.owner_id: "owner"}


def test_a_deleted_account_leaves_the_bot(world: SyncWorld, toy: ToyBot) -> None:
    bob = world.add_user("bob")
    world.join(bob)
    world.sync()
    with world.database.transaction() as session:
        deletion.delete_account(session, Credentials(bob, session.get_one(User, bob).password_hash), utcnow())
    world.sync()
    assert toy.received[-1].body.keys() == {"companyId", "userId", "version"}
    assert world.in_bot() == {world.owner_id: "owner"}


def test_a_deleted_organization_is_sent_nothing_until_it_is_restored(world: SyncWorld) -> None:
    bob = world.add_user("bob")
    world.join(bob)
    world.sync()
    world.paths()
    with world.database.transaction() as session:
        org, owner = session.get_one(Org, world.org_id), session.get_one(User, world.owner_id)
        org_deletion.request_deletion(session, org, typed_name=org.name, actor=owner, now=utcnow())
    world.change_bot(state=BotState.STOPPED)  # the worker has stopped it
    with world.database.transaction() as session:
        disabling.disable_account(session, bob, utcnow(), actor=None)
    world.sync()
    assert world.paths() == []
    with world.database.transaction() as session:
        org, owner = session.get_one(Org, world.org_id), session.get_one(User, world.owner_id)
        org_deletion.restore(session, org, actor=owner, now=utcnow())
    world.become_healthy()
    world.sync()
    assert world.paths() == ["remove", "members"]  # the comparison follows each start
    assert world.in_bot() == {world.owner_id: "owner"}


def test_a_disabled_account_leaves_the_bot_and_returns(world: SyncWorld) -> None:
    bob = world.add_user("bob")
    world.join(bob, MembershipRole.ADMIN)
    world.sync()
    with world.database.transaction() as session:
        disabling.disable_account(session, bob, utcnow(), actor=None)
    world.sync()
    assert bob not in world.in_bot()
    with world.database.transaction() as session:
        disabling.enable_account(session, bob, utcnow(), actor=None)
    world.sync()
    assert world.in_bot()[bob] == "admin"


def test_a_person_who_joins_with_a_disabled_account_stays_outside(world: SyncWorld) -> None:
    bob = world.add_user("bob")
    with world.database.transaction() as session:
        disabling.disable_account(session, bob, utcnow(), actor=None)
    world.join(bob)
    world.sync()
    assert bob not in world.in_bot()


def test_removals_are_sent_first_in_a_new_epoch(world: SyncWorld, toy: ToyBot) -> None:
    bob, carol = world.add_user("bob"), world.add_user("carol")
    world.join(bob)
    world.join(carol)
    world.sync()
    before = toy.snapshot()
    world.remove(carol)
    world.sync()
    world.paths()
    toy.restore(before)
    world.change_bot(epoch=2)
    assert not world.is_settled()
    world.sync()
    assert world.paths() == ["provision", "remove", "add", "add", "members"]
    assert carol not in world.in_bot()
    assert world.is_settled()


def test_a_user_whom_the_bot_never_knew_is_removed_again_in_a_new_epoch(world: SyncWorld) -> None:
    bob = world.add_user("bob")
    world.change_bot(state=BotState.STOPPED)
    world.join(bob)
    world.remove(bob)
    world.change_bot(state=BotState.RUNNING)
    world.sync()
    world.change_bot(epoch=2)
    world.paths()
    world.sync()
    assert world.paths()[:2] == ["provision", "remove"]


@pytest.mark.parametrize(
    "values",
    [
        {"state": BotState.UNHEALTHY},
        {"state": BotState.STOPPED},
        {"desired_state": DesiredState.STOPPED},
        {"phase": BotPhase.CREATING},
        {"phase": BotPhase.REMOVING},
        {"address": None},
        {"needs_attention": "restore the data by hand"},
    ],
)
def test_a_bot_that_cannot_be_called_waits_without_failures(world: SyncWorld, values: dict[str, object]) -> None:
    world.change_bot(**values)
    world.sync()
    assert world.paths() == []
    assert world.row(world.owner_id).attempts == world.bot_sync().attempts == 0
    assert world.bot_sync().unanswered_calls == 0


def test_a_bot_that_is_not_connected_gets_nothing(world: SyncWorld) -> None:
    world.change_sync(provisioning=Provisioning.OFF)
    world.sync()
    assert world.paths() == []


def begin_update(world: SyncWorld) -> str:
    """Begin an update of the bot, and return its id."""
    with world.database.transaction() as session:
        release = session.scalar(sa.select(Release)) or factories.release(session)
        bot = session.get_one(Bot, world.bot_id)
        rollout = factories.rollout(session, release)
        return factories.update(session, rollout, bot, state=UpdateState.RUNNING, started_at=utcnow()).id


def test_no_call_is_sent_while_an_update_runs(world: SyncWorld) -> None:
    bob = world.add_user("bob")
    world.sync()
    world.paths()
    update_id = begin_update(world)
    world.join(bob)
    world.sync()
    assert world.paths() == []
    assert world.row(bob).attempts == 0
    with world.database.transaction() as session:
        ended = {"state": UpdateState.UPDATED, "ended_at": utcnow()}
        session.execute(sa.update(BotUpdate).where(BotUpdate.id == update_id).values(**ended))
    world.sync()
    assert world.in_bot()[bob] == "member"


def test_a_removal_before_a_failed_update_that_restores_the_volume_is_sent_again(
    world: SyncWorld, toy: ToyBot
) -> None:
    """The person is removed while the update begins; the rollback takes the removal back."""
    bob = world.add_user("bob")
    world.join(bob)
    world.sync()
    snapshot = toy.snapshot()
    world.remove(bob)
    started: list[str] = []

    def start_update_during_the_call(call: Received) -> None:
        if call.path.endswith("remove") and not started:
            started.append(begin_update(world))

    toy.on_call = start_update_during_the_call
    world.sync()
    assert bob not in world.in_bot()
    with world.database.transaction() as session:
        outcomes.mark_failed(session, session.get_one(BotUpdate, started[0]), "not healthy", None)
    toy.restore(snapshot)
    assert bob in world.in_bot()
    world.sync()
    assert bob in world.in_bot()  # the update still runs
    assert not world.is_settled()
    with world.database.transaction() as session:
        ended = {"state": UpdateState.ROLLED_BACK, "ended_at": utcnow()}
        session.execute(sa.update(BotUpdate).where(BotUpdate.id == started[0]).values(**ended))
    world.paths()
    world.sync()
    assert world.paths()[:2] == ["provision", "remove"]
    assert bob not in world.in_bot()
    assert world.is_settled()


def test_a_change_during_the_call_is_sent_afterwards(world: SyncWorld, toy: ToyBot) -> None:
    bob = world.add_user("bob")
    world.sync()
    world.join(bob)
    toy.on_call = lambda call: world.remove(bob) if call.user_id == bob and call.path.endswith("add") else None
    world.sync()
    assert bob not in world.in_bot()
    assert world.row(bob).observed_role is SyncRole.NONE


def test_a_failure_is_repeated_after_a_growing_random_delay(world: SyncWorld, toy: ToyBot) -> None:
    world.sync()
    bob = world.add_user("bob")
    world.join(bob)
    toy.choose_trouble = lambda _path: Trouble.ERROR
    longest = timedelta(0)
    for attempt in range(1, 16):
        world.sync()
        row = world.row(bob)
        assert row.attempts >= attempt
        assert (row.state, row.last_error) == (SyncState.PENDING, "the bot answered HTTP 500")
        assert row.next_attempt_at is not None
        longest = max(longest, row.next_attempt_at - utcnow())
        world.skip_waiting()
    assert timedelta(minutes=1) < longest <= timedelta(minutes=15)
    toy.choose_trouble = lambda _path: None
    world.sync()
    assert (world.row(bob).attempts, world.row(bob).last_error) == (0, None)


@pytest.mark.parametrize("status", [401, 404, 422])
def test_a_refusal_blocks_and_operators_are_told_once(
    world: SyncWorld, toy: ToyBot, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    world.sync()
    users = [world.add_user(name) for name in ("bob", "carol")]
    for user in users:
        world.join(user)
    obey = toy._obey
    monkeypatch.setattr(toy, "_obey", lambda *_: (status, {}))
    world.sync()
    for user in users:
        row = world.row(user)
        assert row.state is SyncState.BLOCKED
        assert f"HTTP {status}" in str(row.last_error)
        assert row.next_attempt_at is not None
        assert timedelta(minutes=14) < row.next_attempt_at - utcnow() <= timedelta(minutes=15)
    (event,) = world.events("sync.blocked")
    assert event.bot_id == world.bot_id
    monkeypatch.setattr(toy, "_obey", obey)
    with world.database.transaction() as session:
        for row in session.scalars(sa.select(MemberSync)):
            operations.retry(session, row)
    world.sync()
    assert world.is_settled()


def test_a_failed_call_does_not_delay_a_newer_change(world: SyncWorld, toy: ToyBot) -> None:
    bob = world.add_user("bob")
    world.join(bob)
    world.sync()
    toy.choose_trouble = lambda _path: Trouble.ERROR

    def remove_during_the_call(_path: str) -> Trouble:
        toy.choose_trouble = lambda _path: None
        world.remove(bob)
        return Trouble.ERROR

    world.set_role(bob, MembershipRole.ADMIN)
    toy.choose_trouble = remove_during_the_call
    world.sync()
    assert bob not in world.in_bot()


def test_a_stale_version_grows_until_the_bot_accepts_it(world: SyncWorld, toy: ToyBot) -> None:
    world.sync()
    bob = world.add_user("bob")
    toy.data.versions[str(world.bot().company_id), bob] = 100  # from before a backup was restored
    world.join(bob)
    world.settle(rounds=12)
    assert world.in_bot()[bob] == "member"
    assert world.row(bob).desired_version >= 100


def test_an_unknown_member_is_added_instead_of_changed(world: SyncWorld, toy: ToyBot) -> None:
    bob = world.add_user("bob")
    world.join(bob)
    world.sync()
    del toy.data.members[str(world.bot().company_id)][bob]
    world.paths()
    world.set_role(bob, MembershipRole.ADMIN)
    world.sync()
    assert world.paths() == ["change-role", "add"]
    assert world.in_bot()[bob] == "admin"


@pytest.mark.parametrize("trouble", [Trouble.HANG, Trouble.RESTART])
def test_a_bot_without_an_answer_is_left_to_the_patient_job(world: SyncWorld, toy: ToyBot, trouble: Trouble) -> None:
    from daemon.provision import sync_jobs
    from tests.daemon.provision.world import LANE

    world.sync()
    users = [world.add_user(name) for name in ("bob", "carol")]
    for user in users:
        world.join(user)
    asked: list[str] = []

    def fail(path: str) -> Trouble:
        asked.append(path)
        return trouble

    toy.choose_trouble = fail
    sync_jobs.sync_node(world.database, world.node_id, LANE)
    assert len(asked) == 1  # the others are not sent in vain
    assert world.bot_sync().unanswered_calls == 1
    sync_jobs.sync_node(world.database, world.node_id, LANE)
    assert len(asked) == 1
    toy.choose_trouble = lambda _path: None
    sync_jobs.sync_unanswering(world.database, LANE)
    world.skip_waiting()
    world.sync()
    assert world.bot_sync().unanswered_calls == 0
    assert world.is_settled()


def test_provisioning_is_repeated_and_blocks_members_until_it_succeeds(world: SyncWorld, toy: ToyBot) -> None:
    toy.choose_trouble = lambda _path: Trouble.ERROR
    world.sync()
    assert world.bot_sync().last_error == "the bot answered HTTP 500"
    assert world.paths() == []
    toy.choose_trouble = lambda _path: None
    world.skip_waiting()
    world.sync()
    assert world.is_settled()


def test_another_company_makes_all_roles_unknown(world: SyncWorld, toy: ToyBot) -> None:
    world.sync()
    toy.data.companies = {world.org_id: "another"}
    world.change_bot(epoch=2)
    world.settle()
    assert world.bot().company_id == "another"
    assert world.in_bot() == {world.owner_id: "owner"}


def test_a_budget_is_sent_once_and_again_in_a_new_epoch(world: SyncWorld, toy: ToyBot) -> None:
    world.sync()
    with world.database.transaction() as session:
        operations.set_budget(session, session.get_one(Bot, world.bot_id), 700, 30, actor=None)
    world.paths()
    world.sync()
    assert world.paths() == ["budget"]
    assert toy.data.budgets[str(world.bot().company_id)] == (700, 30)
    world.change_bot(epoch=2)
    world.sync()
    assert world.paths() == ["provision", "add", "budget", "members"]
    assert toy.data.budgets[str(world.bot().company_id)] == (700, 30)


def test_a_linked_bot_is_not_provisioned(database: Database, toy: ToyBot) -> None:
    world = SyncWorld(database, toy, Provisioning.OFF)
    toy.data.members["existing"] = {"old-user": "owner"}
    with database.transaction() as session:
        bot = session.get_one(Bot, world.bot_id)
        provisioning.provision_bot(session, bot, SECRET, company_id="existing", now=utcnow(), actor=None)
    world.sync()
    assert world.paths() == ["add", "members", "remove"]
    assert toy.data.members["existing"] == {world.owner_id: "owner"}


def test_a_bot_that_is_connected_again_gets_refused_members_at_once(
    world: SyncWorld, toy: ToyBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sync()
    bob = world.add_user("bob")
    world.join(bob)
    obey = toy._obey
    monkeypatch.setattr(toy, "_obey", lambda *_: (422, {}))
    world.sync()
    assert world.row(bob).state is SyncState.BLOCKED
    monkeypatch.setattr(toy, "_obey", obey)
    with world.database.transaction() as session:
        provisioning.provision_bot(session, session.get_one(Bot, world.bot_id), None, now=utcnow(), actor=None)
    row = world.row(bob)
    assert (row.state, row.attempts, row.last_error) == (SyncState.PENDING, 0, None)
    world.sync()
    assert world.in_bot()[bob] == "member"


@pytest.mark.parametrize("both_valid", [True, False])
def test_the_next_secret_becomes_current_when_the_bot_accepts_it(
    world: SyncWorld, toy: ToyBot, both_valid: bool
) -> None:
    world.sync()
    with world.database.transaction() as session:
        session.get_one(Bot, world.bot_id).secret_variable = "PROVISION_SECRET"
        provision_secrets.begin_rotation(session, session.get_one(Bot, world.bot_id), actor=None)
    following = world.bot().provision_secret["next"]
    world.let_reconcile()
    world.sync()
    assert world.bot().provision_secret == {"current": SECRET, "next": following}
    assert world.is_settled()
    toy.secrets = [following, SECRET] if both_valid else [following]
    world.let_reconcile()
    world.sync()
    assert world.bot().provision_secret == {"current": following, "next": None}
    assert [event.tag for event in world.events("bot.secret")] == ["bot.secret_rotation_begun", "bot.secret_rotated"]


def test_one_call_at_a_time_reaches_a_bot(world: SyncWorld, toy: ToyBot) -> None:
    import threading

    for number in range(6):
        world.join(world.add_user(f"user{number}"))
    toy.delay = 0.03
    threads = [threading.Thread(target=world.sync) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.sync()
    assert toy.most_in_flight == 1
    assert world.is_settled()
    assert sorted(world.paths()) == sorted(["provision", *["add"] * 7, "members"])


def test_an_error_in_one_bot_does_not_affect_others(
    world: SyncWorld, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.database.transaction() as session:
        broken = world.add_bot(session, world.toy)
        session.execute(sa.text("UPDATE bots SET provision_secret = 'unreadable' WHERE id = :id"), {"id": broken})
    world.sync()
    assert world.is_settled()
    assert f"the sync of bot {broken} failed" in caplog.text
