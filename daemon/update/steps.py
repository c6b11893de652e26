"""What each step of an update does, from the pull to the health check; their order stands in `sequence`."""

from __future__ import annotations

from daemon.engine import client as engines
from daemon.engine import containers, health_probe
from daemon.engine.recreate import capture as captures
from daemon.engine.recreate import compare, creation
from daemon.errors import UpdateFailed
from daemon.registry.credentials import Credentials, CredentialsError
from daemon.update.preflight import volumes_of
from daemon.update.update_context import Run
from portal.models import Snapshot, SnapshotState, move
from portal.rules.references import parse_reference
from portal.services.bots import snapshots
from portal.services.rollouts import updates


class Unhealthy(UpdateFailed):
    """The new container did not become healthy."""


def pull(run: Run) -> None:
    """Get the release's image by digest, while the old container still serves."""
    registry = parse_reference(run.image).registry
    try:
        credential = Credentials.from_docker_config(run.settings.registry_config).for_registry(registry)
    except CredentialsError as error:  # an operator mends the file, and no release is the worse for it
        raise engines.PullFailed(f"Pulling {run.image} failed: {error}", transient=True) from error
    engines.pull(run.engine, run.image, credential.for_engine() if credential else None)


def capture(run: Run) -> None:
    """Write down all there is to know of the old container, so that it could be created again."""
    saved = captures.capture(run.engine, run.old)
    address = health_probe.read_address(saved["container"], run.node, run.bot.port)
    healthy = address is not None and health_probe.probe_twice(address, run.bot.health_path).ok
    with run.write() as (session, update):
        update.saved_container = saved
        update.bot.container_name = containers.own_name(saved["container"])
        updates.note(session, update, healthy_before=healthy)


def precreate(run: Run) -> None:
    """Create the new container beside the old one, and refuse a difference that nobody asked for."""
    new_image = run.engine.inspect_image(run.image)  # type: ignore[no-untyped-call]
    plan = creation.plan_replacement(run.saved, run.image, run.labels)
    # An earlier attempt may have given up waiting for the engine, which made it all the same.
    if late := containers.find(run.engine, run.name_of_new, run.update.id):
        containers.remove(run.hand(), late, with_fresh_volumes=True)
    container_id = creation.create(run.hand(), plan, run.name_of_new)
    with run.write() as (_, update):
        update.new_container_id = container_id
    created = run.engine.inspect_container(container_id)
    if differences := compare.unexplained_differences(run.saved, created, new_image):
        raise UpdateFailed(
            "the container could not be recreated faithfully; the old one was left alone: " + "; ".join(differences)
        )


def stop(run: Run) -> None:
    """Stop the old container by its own signal and grace; its restart policy stands in what was captured."""
    containers.set_restart_policy(run.hand(), run.old, containers.NO_RESTART)
    containers.stop(run.engine, run.old, run.lease.still_mine)


def snapshot(run: Run) -> None:
    """Archive every writable volume, checked."""
    size = run.update.journal["volumes_size"]
    for number, volume in enumerate(volumes_of(run.saved["container"]), start=1):
        file = f"{run.update.id}-{number}.tar"
        with run.write() as (session, update):
            row = snapshots.begin(session, update, volume, f"{run.node.snapshot_dir}/{file}")
        run.lease.still_mine()
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
    containers.rename(run.hand(), run.old, run.name_of_old)
    containers.rename(run.hand(), run.new, run.name)


def start(run: Run) -> None:
    """Start the new container."""
    containers.start(run.hand(), run.new)


def await_health(run: Run) -> None:
    """Wait until the new container is healthy, where it answers from."""
    found = run.wait_until_healthy(run.new)
    if not found.healthy:
        raise Unhealthy(f"the new container is not healthy: {found.reason}")
    run.note(address=found.address)
