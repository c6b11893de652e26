"""The update of one bot, step by step, and the way back for each phase of it.

Every step is written down before its first effect. A snapshot of a running database would be torn, so the bot is
stopped first; pulling and creating come before that, so the bot is down only for archive and start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing

from daemon import engine as engines
from daemon.registry.credentials import Credential, Credentials
from daemon.update import capture as captures
from daemon.update import compare, containers, health, recreate
from daemon.update.errors import UpdateFailed
from daemon.update.finish import clean, commit
from daemon.update.lease import BotLease
from daemon.update.preflight import NothingToDo, preflight, volumes_of
from daemon.update.recovery import recover
from daemon.update.rollback import abandon, roll_back, undo
from daemon.update.run import NOT_OURS_TO_JUDGE, Run
from portal.database import Database
from portal.models import BotUpdate, Snapshot, SnapshotState, Step, move
from portal.rules.references import parse_reference
from portal.services import updates
from portal.services.bot_leases import BotBusy, LeaseLost
from portal.services.updates import Claim
from portal.settings import Settings

logger = logging.getLogger(__name__)


class Unhealthy(UpdateFailed):
    """The new container did not become healthy."""


def update_bot(database: Database, settings: Settings, update_id: str) -> None:
    """Bring a bot to the release of its update, or back; go on with what a worker that died left unfinished.

    How it ended stands in the update's row. Calling it twice, or on two workers at once, is harmless: one holds the
    bot, the other returns. When the engine or the database does not answer, the row stays as it is, and the call
    is to be repeated.

    Args:
        database: where the update stands.
        settings: of this installation.
        update_id: the update.
    """
    with database.reading() as session:
        update = session.get(BotUpdate, update_id)
        earlier = updates.left_uncleaned(session, update_id)
    if update is None:
        return
    try:
        with BotLease(database, update.bot_id) as lease:
            for left_behind in earlier:
                _work(database, settings, lease, left_behind)
            _work(database, settings, lease, update_id)
    except (BotBusy, LeaseLost) as reason:
        logger.info("update %s is left to another worker: %s", update_id, reason)
    except UpdateFailed as error:
        # The engine does not answer, or something could not be removed; whoever looks next goes on from here.
        logger.warning("update %s waits: %s", update_id, error)


def _work(database: Database, settings: Settings, lease: BotLease, update_id: str) -> None:
    with lease.transaction() as session:
        claim = updates.claim(session, update_id)
    if claim is Claim.NOTHING:
        return
    with closing(Run(database, settings, lease, update_id)) as run:
        match claim:
            case Claim.START:
                _walk(run, _PHASES)
            case Claim.RECOVER if recover(run):
                _walk(run, _PHASES[-1:])
            case Claim.CLEAN:
                clean(run)


def pull(run: Run) -> None:
    """Get the release's image by digest, while the old container still serves."""
    reference = parse_reference(run.image)
    credential = Credentials.from_docker_config(run.settings.registry_config).for_registry(reference.registry)
    engines.pull(run.engine, run.image, None if credential is None else _shown_to_engine(credential))


def _shown_to_engine(credential: Credential) -> dict[str, str]:
    if credential.identity_token:
        return {"identitytoken": credential.identity_token}
    return {"username": credential.username, "password": credential.password}


def capture(run: Run) -> None:
    """Write down all there is to know of the old container, so that it could be created again."""
    assert run.update.old_container_id is not None  # noqa: S101 - the preflight has inspected it
    saved = captures.capture(run.engine, run.update.old_container_id)
    address = health.read_address(saved["container"], run.node, run.bot.port)
    healthy = address is not None and health.probe(address, run.bot.health_path).ok
    with run.write() as (session, update):
        update.saved_container = saved
        updates.note(session, update, healthy_before=healthy)


def precreate(run: Run) -> None:
    """Create the new container beside the old one, and refuse a difference that nobody asked for."""
    new_image = run.engine.inspect_image(run.image)  # type: ignore[no-untyped-call]
    plan = recreate.plan_replacement(run.saved, run.image, run.labels)
    container_id = recreate.create(run.hand(), plan, run.name_of_new)
    with run.write() as (_, update):
        update.new_container_id = container_id
    created = run.engine.inspect_container(container_id)
    if differences := compare.unexplained_differences(run.saved, created, new_image):
        raise UpdateFailed(
            "the container could not be recreated faithfully; the old one was left alone: " + "; ".join(differences)
        )


def stop(run: Run) -> None:
    """Stop the old container by its own signal and grace; its restart policy stands in what was captured."""
    old = _old(run)
    containers.set_restart_policy(run.hand(), old, recreate.NO_RESTART)
    containers.stop(run.engine, old, run.still_mine)


def snapshot(run: Run) -> None:
    """Archive every writable volume, checked."""
    size = run.update.journal["volumes_size"]
    for number, volume in enumerate(volumes_of(run.saved["container"]), start=1):
        file = f"{run.update.id}-{number}.tar"
        with run.write() as (session, update):
            row = updates.begin_snapshot(session, update, volume, f"{run.node.snapshot_dir}/{file}")
        run.still_mine()
        archived = run.helper.archive(number, volume, run.node.snapshot_dir, file, size)
        with run.write() as (session, update):
            taken = session.get_one(Snapshot, row)
            move(
                session,
                taken,
                SnapshotState.TAKING,
                SnapshotState.VERIFIED,
                archive=archived.path,
                size=archived.size,
                entries=archived.entries,
                sha256=archived.sha256,
                helper_digest=update.journal["helper_image"],
            )


def swap(run: Run) -> None:
    """Set the old container aside and give its name to the new one: renames only, which are easily undone."""
    containers.rename(run.hand(), _old(run), run.name_of_old)
    containers.rename(run.hand(), _new(run), run.name)


def start(run: Run) -> None:
    """Start the new container."""
    containers.start(run.hand(), _new(run))


def await_health(run: Run) -> None:
    """Wait until the new container is healthy, where it answers from."""
    found = health.wait_until_healthy(
        run.engine,
        _new(run),
        run.node,
        run.bot.port,
        run.bot.health_path,
        timeout=run.settings.health_timeout.total_seconds(),
        interval=run.settings.health_interval.total_seconds(),
        still_mine=run.still_mine,
    )
    if not found.healthy:
        raise Unhealthy(f"the new container is not healthy: {found.reason}")
    run.note(address=found.address)


def _old(run: Run) -> str:
    assert run.update.old_container_id is not None  # noqa: S101 - the preflight has inspected it
    return run.update.old_container_id


def _new(run: Run) -> str:
    assert run.update.new_container_id is not None  # noqa: S101 - it was created before anything was stopped
    return run.update.new_container_id


_Steps = Sequence[tuple[Step, Callable[[Run], None]]]
_PHASES: Sequence[tuple[_Steps, Callable[[Run, Exception], None]]] = (
    # The claim was step 1. Until the stop, giving up changes nothing.
    (
        (
            (Step.PREFLIGHT, preflight),
            (Step.PULL, pull),
            (Step.CAPTURE, capture),
            (Step.PRECREATE, precreate),
        ),
        abandon,
    ),
    # Until the start no new code has touched the data: the old container simply starts again.
    (
        (
            (Step.STOP, stop),
            (Step.SNAPSHOT, snapshot),
            (Step.SWAP, swap),
        ),
        undo,
    ),
    # From the start on, volumes and container go back together. The commit is step 11.
    (
        (
            (Step.START, start),
            (Step.HEALTH, await_health),
        ),
        roll_back,
    ),
)


def _walk(run: Run, phases: Sequence[tuple[_Steps, Callable[[Run, Exception], None]]]) -> None:
    for steps, way_back in phases:
        try:
            for step, act in steps:
                run.enter(step)
                act(run)
        except NothingToDo as reason:
            with run.write() as (session, update):
                updates.skip(session, update, reason.reason)
            return
        except NOT_OURS_TO_JUDGE as error:
            if way_back is not abandon or run.update.step is Step.PRECREATE:
                raise
            abandon(run, error)
            return
        except Exception as error:  # whatever it was, the bot comes first
            logger.warning("update %s failed in step %s", run.update.id, run.update.step, exc_info=error)
            way_back(run, error)
            return
    commit(run)
