"""Updates while the engine is in trouble: what is repeated, what is journaled, and when an operator is called."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import docker
import pytest
import requests
from docker.errors import APIError

from daemon.engine import containers
from daemon.engine.client import EngineUnreachable
from daemon.engine.labels import BOT_LABEL, INSTALL_LABEL, UPDATE_LABEL, container_name, helper_name
from daemon.snapshots.archives import Archive, SnapshotHelper
from daemon.snapshots.helper_containers import HelperFailed
from daemon.snapshots.snapshot_taker import SnapshotTaker
from daemon.update import preflight, retries
from daemon.update.sequence import update_bot
from daemon.update.update_context import UpdateContext
from demo.versions import CORRUPTING_AND_CRASHING, FIRST, SECOND
from portal.models import BotUpdate, SkipReason, Step, UpdateState, Verdict
from portal.services import fleet_settings
from tests.support.site import NOTE, Site

pytestmark = [pytest.mark.docker, pytest.mark.registry]

Patch = Callable[[str, Callable[[str], bool]], list[str]]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Patch:
    """Let the engine refuse an operation of `containers` with status 500: `refuse("start", which)`."""

    def patch(operation: str, is_refused: Callable[[str], bool]) -> list[str]:
        original, refused = getattr(containers, operation), list[str]()

        def operate(engine: Any, container: str, *arguments: Any, **options: Any) -> Any:
            if is_refused(container):
                refused.append(container)
                response = requests.Response()
                response.status_code = 500
                raise APIError("refused", response, "the engine is in trouble")
            return original(engine, container, *arguments, **options)

        monkeypatch.setattr(containers, operation, operate)
        return refused

    return patch


def date_trouble_back(site: Site, update_id: str) -> None:
    """Let the trouble of an update have begun an hour earlier."""
    with site.database.transaction() as session:
        update = session.get_one(BotUpdate, update_id)
        trouble = update.journal["trouble"]
        since = {
            action: (datetime.fromisoformat(moment) - timedelta(hours=1)).isoformat()
            for action, moment in trouble["since"].items()
        }
        update.journal = update.journal | {"trouble": trouble | {"since": since}}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers give up soon."""
    monkeypatch.setattr(retries, "WORKER_SECONDS", 1.0)


def test_a_refused_call_is_repeated_and_journaled(site: Site, refuse: Patch) -> None:
    update_id, remaining = site.update_to(SECOND), [1, 2]
    refuse("start", lambda _container: bool(remaining and remaining.pop()))
    update_bot(site.database, site.settings, update_id)
    update = site.update(update_id)
    assert (update.state, update.error, update.attempt) == (UpdateState.UPDATED, None, 1)
    trouble = update.journal["trouble"]
    assert (trouble["attempts"], trouble["step"], trouble["since"]) == (2, Step.START, {})
    assert "the engine is in trouble" in trouble["error"]
    assert site.leftovers() == []


@pytest.mark.usefixtures("impatient")
def test_release_is_not_blamed_when_the_engine_does_not_start_it(site: Site, refuse: Patch) -> None:
    before = site.contents()
    refuse("start", lambda container: container != site.container)
    update_id = site.update_to(SECOND)
    update_bot(site.database, site.settings, update_id)
    update, container = site.update(update_id), site.inspect()
    assert (update.state, update.verdict, update.transient) == (UpdateState.FAILED, Verdict.FAILED, True)
    assert (container["Id"], container["State"]["Running"]) == (site.container, True)
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert (site.notes(), site.contents()) == ([NOTE], before)
    assert site.leftovers() == []


@pytest.mark.usefixtures("impatient")
def test_rollback_waits_for_the_engine_and_calls_an_operator_when_it_has_waited_too_long(
    site: Site, refuse: Patch
) -> None:
    update_id = site.update_to(CORRUPTING_AND_CRASHING)
    refused = refuse("start", lambda container: container == site.container)
    update_bot(site.database, site.settings, update_id)
    update = site.update(update_id)
    assert (update.state, update.verdict, site.bot().needs_attention) == (UpdateState.RUNNING, Verdict.FAILED, None)
    assert len(refused) > 1
    date_trouble_back(site, update_id)
    update_bot(site.database, site.settings, update_id)
    assert site.update(update_id).state is UpdateState.NEEDS_ATTENTION
    assert "the engine is in trouble" in (site.bot().needs_attention or "")


@pytest.mark.usefixtures("impatient")
def test_long_outage_does_not_use_up_the_patience_with_the_rollback(
    site: Site, refuse: Patch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_connection(_helper: SnapshotHelper) -> None:
        raise EngineUnreachable("no answer")

    update_id = site.update_to(CORRUPTING_AND_CRASHING)
    refuse("start", lambda container: container == site.container)
    update_bot(site.database, site.settings, update_id)
    with monkeypatch.context() as outage:
        outage.setattr(SnapshotHelper, "remove_all_helpers", refuse_connection)
        update_bot(site.database, site.settings, update_id)
    date_trouble_back(site, update_id)
    update_bot(site.database, site.settings, update_id)
    assert (site.update(update_id).state, site.bot().needs_attention) == (UpdateState.RUNNING, None)


@pytest.mark.usefixtures("impatient")
def test_short_outage_does_not_extend_the_patience_with_the_rollback(
    site: Site, refuse: Patch, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_id = site.update_to(CORRUPTING_AND_CRASHING)
    refuse("start", lambda container: container == site.container)
    update_bot(site.database, site.settings, update_id)
    date_trouble_back(site, update_id)
    remove_all_helpers, outage = SnapshotHelper.remove_all_helpers, [True]

    def refuse_connection_once(helper: SnapshotHelper) -> None:
        if outage:
            outage.clear()
            raise EngineUnreachable("no answer")
        remove_all_helpers(helper)

    monkeypatch.setattr(SnapshotHelper, "remove_all_helpers", refuse_connection_once)
    update_bot(site.database, site.settings, update_id)
    assert (outage, site.update(update_id).state) == ([], UpdateState.NEEDS_ATTENTION)


@pytest.mark.usefixtures("impatient")
def test_worker_that_completes_an_undo_knows_why_the_update_failed(
    site: Site, refuse: Patch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_taker: SnapshotTaker) -> list[Archive]:
        raise HelperFailed("the folder is not writable")

    monkeypatch.setattr(SnapshotTaker, "take_snapshots", fail)
    update_id, trouble = site.update_to(SECOND), [True]
    refuse("start", lambda container: container == site.container and bool(trouble))
    update_bot(site.database, site.settings, update_id)
    assert site.update(update_id).state is UpdateState.RUNNING
    trouble.clear()
    update_bot(site.database, site.settings, update_id)
    update = site.update(update_id)
    assert (update.state, update.error, update.transient) == (UpdateState.FAILED, "the folder is not writable", False)
    assert (site.notes(), site.leftovers()) == ([NOTE], [])


def test_repeated_preflight_of_a_bot_that_has_stopped_leaves_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_and_fail(_context: UpdateContext, _old: dict[str, Any]) -> None:
        site.engine.stop(site.container)
        raise EngineUnreachable("no answer")

    monkeypatch.setattr(preflight, "_tag_old_image", stop_and_fail)
    update_id = site.update_to(SECOND)
    update_bot(site.database, site.settings, update_id)
    update = site.update(update_id)
    assert (update.state, update.skip_reason) == (UpdateState.SKIPPED, SkipReason.STOPPED)
    assert site.leftovers() == []


@pytest.mark.usefixtures("impatient")
def test_rollback_continues_when_the_engine_works_again(site: Site, refuse: Patch) -> None:
    before, trouble = site.contents(), [True]
    update_id = site.update_to(CORRUPTING_AND_CRASHING)
    refuse("start", lambda container: container == site.container and bool(trouble))
    update_bot(site.database, site.settings, update_id)
    assert site.update(update_id).state is UpdateState.RUNNING
    trouble.clear()
    update_bot(site.database, site.settings, update_id)
    update = site.update(update_id)
    assert (update.state, update.transient, site.bot().epoch) == (UpdateState.ROLLED_BACK, False, 2)
    assert (site.notes(), site.contents(), site.leftovers()) == ([NOTE], before, [])


def test_old_container_that_a_late_call_stops_is_started_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = containers.start, list[str]()

    def start_and_kill_once(engine: docker.APIClient, container: str) -> None:
        start(engine, container)
        started.append(container)
        if started.count(site.container) == 1 and container == site.container:
            engine.kill(container)

    monkeypatch.setattr(containers, "start", start_and_kill_once)
    update_id = site.update_to(CORRUPTING_AND_CRASHING)
    update_bot(site.database, site.settings, update_id)
    assert (site.update(update_id).state, site.bot().needs_attention) == (UpdateState.ROLLED_BACK, None)
    assert started.count(site.container) == 2
    assert (site.notes(), site.leftovers()) == ([NOTE], [])


def test_patience_grows_with_the_data() -> None:
    assert retries.choose_patience(0) == timedelta(minutes=15)
    assert retries.choose_patience(100 * 10**9) > timedelta(hours=12)


@pytest.mark.usefixtures("impatient")
def test_name_and_policy_that_an_earlier_attempt_left_are_not_taken_for_those_of_the_bot(
    site: Site, refuse: Patch
) -> None:
    update_id, trouble = site.update_to(SECOND), [True]
    refuse("start", lambda container: container != site.container and bool(trouble))
    update_bot(site.database, site.settings, update_id)
    assert site.update(update_id).state is UpdateState.FAILED
    # The engine carries out two calls of the first attempt, long after the worker gave up waiting.
    site.engine.rename(site.container, container_name(update_id, "old"))
    containers.set_restart_policy(site.engine, site.container, containers.NO_RESTART)
    trouble.clear()
    with site.database.transaction() as session:
        session.get_one(BotUpdate, update_id).state = UpdateState.PENDING
    update_bot(site.database, site.settings, update_id)
    update, container = site.update(update_id), site.inspect()
    assert (update.error, update.state, update.attempt) == (None, UpdateState.UPDATED, 2)
    assert container["Id"] == update.new_container_id
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert site.leftovers() == []


def test_leftovers_of_the_same_bot_do_not_prevent_its_update(site: Site) -> None:
    with site.database.reading() as session:
        install = fleet_settings.get_settings(session).install_id
    update_id, earlier = site.update_to(SECOND), "earlier"
    labels = {INSTALL_LABEL: install, BOT_LABEL: site.bot_id, UPDATE_LABEL: earlier}
    for name in (helper_name(earlier, "probe", 3), container_name(earlier, "new")):
        site.engine.create_container(
            site.images.reference(FIRST),
            name=name,
            labels=labels,
            host_config=site.engine.create_host_config(binds=[f"{site.volume}:/x"]),
        )
    update_bot(site.database, site.settings, update_id)
    update = site.update(update_id)
    assert (update.error, update.state, site.leftovers()) == (None, UpdateState.UPDATED, [])


def test_unhealthy_release_is_logged_in_one_line(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    update_id = site.update_to(CORRUPTING_AND_CRASHING)
    update_bot(site.database, site.settings, update_id)
    assert site.update(update_id).state is UpdateState.ROLLED_BACK
    lines = [record for record in caplog.records if record.name.startswith("daemon.") and record.levelname != "INFO"]
    assert [record.exc_info for record in lines] == [None]
    assert f"update {update_id} failed in step health: Health check failed" in lines[0].getMessage()
