"""What each step of an update does, from the pull to the health check; their order stands in `sequence`."""

from __future__ import annotations

from daemon.engine import client as engines
from daemon.engine import containers, health_probe
from daemon.engine.recreate import capture as captures
from daemon.engine.recreate import compare, creation
from daemon.errors import OperationFailed
from daemon.registry.credentials import Credentials, CredentialsError
from daemon.update.preflight import list_snapshot_volumes
from daemon.update.update_context import UpdateContext
from portal.models import Snapshot, SnapshotState, move
from portal.rules.references import parse_reference
from portal.services.bots import snapshots
from portal.services.rollouts import updates


class Unhealthy(OperationFailed):
    """The new container did not become healthy."""


def pull(context: UpdateContext) -> None:
    """Get the release's image by digest, while the old container still serves."""
    registry = parse_reference(context.image).registry
    try:
        credential = Credentials.from_docker_config(context.settings.registry_config).for_registry(registry)
    except CredentialsError as error:  # an operator mends the file, and no release is the worse for it
        raise engines.PullFailed(f"Pulling {context.image} failed: {error}", transient=True) from error
    engines.pull(context.engine, context.image, credential.for_engine() if credential else None)


def capture(context: UpdateContext) -> None:
    """Write down all there is to know of the old container, so that it could be created again."""
    saved = captures.capture(context.engine, context.old)
    address = health_probe.read_address(saved["container"], context.node, context.bot.port)
    healthy = address is not None and health_probe.probe_with_retry(address, context.bot.health_path).ok
    with context.write() as (session, update):
        update.saved_container = saved
        update.bot.container_name = containers.name_of_container(saved["container"])
        updates.add_to_journal(session, update, healthy_before=healthy)


def precreate(context: UpdateContext) -> None:
    """Create the new container beside the old one, and refuse a difference that nobody asked for."""
    new_image = context.engine.inspect_image(context.image)  # type: ignore[no-untyped-call]
    plan = creation.plan_replacement(context.saved, context.image, context.labels)
    # An earlier attempt may have given up waiting for the engine, which made it all the same.
    if late := containers.find(context.engine, context.name_of_new, context.update.id):
        containers.remove(context.guarded_engine(), late, with_fresh_volumes=True)
    container_id = creation.create(context.guarded_engine(), plan, context.name_of_new)
    with context.write() as (_, update):
        update.new_container_id = container_id
    created = context.engine.inspect_container(container_id)
    if differences := compare.unexplained_differences(context.saved, created, new_image):
        raise OperationFailed(
            "the container could not be recreated faithfully; the old one was left alone: " + "; ".join(differences)
        )


def stop(context: UpdateContext) -> None:
    """Stop the old container by its own signal and grace; its restart policy stands in what was captured."""
    containers.set_restart_policy(context.guarded_engine(), context.old, containers.NO_RESTART)
    containers.stop(context.engine, context.old, context.lease.renew_or_raise)


def snapshot(context: UpdateContext) -> None:
    """Archive every writable volume, checked."""
    size = context.update.journal["volumes_size"]
    for number, volume in enumerate(list_snapshot_volumes(context.saved["container"]), start=1):
        file = f"{context.update.id}-{number}.tar"
        with context.write() as (session, update):
            row = snapshots.record_begin(session, update, volume, f"{context.node.snapshot_dir}/{file}")
        context.lease.renew_or_raise()
        archived = context.helper.archive(number, volume, context.node.snapshot_dir, file, size)
        with context.write() as (session, update):
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


def swap(context: UpdateContext) -> None:
    """Set the old container aside and give its name to the new one: renames only, which are easily undone."""
    containers.rename(context.guarded_engine(), context.old, context.name_of_old)
    containers.rename(context.guarded_engine(), context.new, context.name)


def start(context: UpdateContext) -> None:
    """Start the new container."""
    containers.start(context.guarded_engine(), context.new)


def await_health(context: UpdateContext) -> None:
    """Wait until the new container is healthy, where it answers from."""
    found = context.wait_until_healthy(context.new)
    if not found.healthy:
        raise Unhealthy(f"the new container is not healthy: {found.reason}")
    context.note(address=found.address)
