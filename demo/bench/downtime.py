"""Benchmark of the downtime of updates and rollbacks, compared with bare calls. Used by `demo.bench.__main__`."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from demo.bench import updates
from demo.bench.environment import BenchEnvironment
from demo.bench.tables import Table
from demo.bench.volumes import Workload, root_of
from demo.images import build_reference_bot
from demo.processes import free_port
from demo.seed import wait_until_healthy
from demo.versions import CRASHING, SECOND, BotVersion
from portal.database import Database
from portal.models import BotUpdate, Step, UpdateState
from portal.services.rollouts import timings

WORKLOADS = (
    Workload("empty"),
    Workload("1 GB, 1 % changing", files=1000, changing=10),
    Workload("50,000 files, 100 changing", files=50_000, size=4000, changing=100),
)
_SETTLE_SECONDS = 6.0
"""Only files that have not changed for five seconds belong to the base of a snapshot."""


def measure(environment: BenchEnvironment) -> Table:
    """Measure updates and rollbacks of bots with different data, in turns with the bare calls."""
    table = Table(
        "Downtime of an update",
        ("data", "bare calls", "update", "ratio", "stop", "snapshot", "start", "rollback"),
        note="Bare calls: stop, one container with tar and sync, create, start, first answer. Update: to the second"
        " good answer is recorded. Rollback: from the failed verdict until the old version is healthy.",
    )
    with environment.new_database() as database:
        updates.create_org_and_node(database, environment)
        for number, workload in enumerate(WORKLOADS):
            table.rows.append(_measure(environment, database, number, workload))
    return table


def _measure(environment: BenchEnvironment, database: Database, number: int, workload: Workload) -> tuple[str, ...]:
    bare = _measure_bare_calls(environment, f"bare-{number}", workload)
    update = _update(environment, database, f"good-{number}", workload, SECOND)
    bad = _update(environment, database, f"bad-{number}", workload, CRASHING)
    down = _since(update, Step.STOP)
    took = {step.name: step.took or timedelta() for step in timings.list_step_durations(update)}
    parts = (took[Step.STOP], took[Step.SNAPSHOT], _since(update, Step.START), _since(bad, Step.ROLLBACK))
    return (workload.title, _format(bare), _format(down), f"{down / bare:.2f}", *map(_format, parts))


def _measure_bare_calls(environment: BenchEnvironment, name: str, workload: Workload) -> timedelta:
    image = updates.start_bot(environment, name)
    engine, root = environment.engine, root_of(environment.engine, f"{name}-data")
    workload.fill(root)
    build_reference_bot(engine, environment.registry, SECOND, name, {})
    bindings = engine.inspect_container(name)["HostConfig"]["Binds"]
    with workload.rewritten(root):
        time.sleep(_SETTLE_SECONDS)
    port = free_port()
    started = time.perf_counter()
    engine.stop(name)
    _archive(environment, name)
    engine.rename(name, f"{name}-old")
    host_config = engine.create_host_config(binds=bindings, port_bindings={3100: ("127.0.0.1", port)})
    engine.start(engine.create_container(image, name=name, ports=[3100], host_config=host_config)["Id"])
    wait_until_healthy(f"127.0.0.1:{port}")
    took = timedelta(seconds=time.perf_counter() - started)
    engine.remove_container(f"{name}-old")
    updates.remove_bot(environment, name)
    return took


def _archive(environment: BenchEnvironment, name: str) -> None:
    """Archive both volumes of a bot with one container, without any check."""
    engine, archives = environment.engine, environment.folder / "bare"
    binds = {f"{name}-{one}": {"bind": f"/volumes/{one}", "mode": "ro"} for one in ("data", "files")}
    container = engine.create_container(
        environment.settings.snapshot_image,
        ["sh", "-c", "tar -cf /archives/bare.tar -C /volumes . && sync /archives/bare.tar"],
        host_config=engine.create_host_config(binds={**binds, str(archives): {"bind": "/archives", "mode": "rw"}}),
    )["Id"]
    engine.start(container)
    engine.wait(container)
    engine.remove_container(container)


def _update(
    environment: BenchEnvironment, database: Database, name: str, workload: Workload, version: BotVersion
) -> BotUpdate:
    updates.start_bot(environment, name)
    old = environment.engine.inspect_container(name)["Id"]
    root = root_of(environment.engine, f"{name}-data")
    workload.fill(root)
    time.sleep(_SETTLE_SECONDS)

    def is_running() -> bool:
        return bool(environment.engine.inspect_container(old)["State"]["Running"])

    update = updates.update(environment, database, name, version, lambda: workload.rewritten(root, is_running))
    if update.state not in {UpdateState.UPDATED, UpdateState.ROLLED_BACK}:
        raise RuntimeError(f"the update of a bot with {workload.title} ended as {update.state}: {update.error}")
    updates.remove_bot(environment, name)
    return update


def _since(update: BotUpdate, step: Step) -> timedelta:
    """Return the time from the beginning of a step to the first healthy answer."""
    if update.answering_at is None:
        raise RuntimeError("the bot did not answer")
    return update.answering_at - datetime.fromisoformat(update.timings[step][0])


def _format(duration: timedelta) -> str:
    return f"{duration.total_seconds():.2f} s"
