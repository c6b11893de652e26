"""Preflight: every obstacle to an update that can be found before the bot is stopped. Used by `sequence`."""

from __future__ import annotations

from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import Mount

from daemon.engine import containers
from daemon.engine.client import PullFailed
from daemon.engine.labels import BOT_LABEL, INSTALL_LABEL, is_helper
from daemon.engine.recreate.mounts import writable_volumes
from daemon.engine.stopped_containers import describe_stop, read_stop_cause
from daemon.errors import OperationFailed
from daemon.snapshots import helper_containers
from daemon.snapshots.archives import choose_capabilities
from daemon.snapshots.helper_containers import HelperFailed, HelperLost
from daemon.snapshots.snapshot_taker import SnapshotTaker
from daemon.update import original_settings
from daemon.update.update_context import UpdateContext
from portal.models import SkipReason, utcnow
from portal.rules.allowlist import Allowlist, ImageNotAllowed
from portal.rules.references import parse_reference
from portal.services.bots import observations

_SPACE_FACTOR = 1.2
"""Required free bytes per byte of the volumes, because an archive is a little larger than its contents."""


class PreflightFailed(OperationFailed):
    """The update cannot start; the message names the obstacle."""


class NoUpdateNeeded(Exception):
    """The bot needs no update now."""

    def __init__(self, reason: SkipReason) -> None:
        super().__init__(str(reason))
        self.reason = reason


def preflight(context: UpdateContext) -> None:
    """Check that the update and a rollback are possible, and protect the old image from pruning.

    Raises:
        NoUpdateNeeded: the bot is stopped.
        PreflightFailed: there is an obstacle; nothing was changed.
        EngineUnreachable: the node does not answer.
    """
    _require_allowed(context)
    old = _require_running(context)
    _require_permanent_name(context, old)
    _require_volumes(context, old)
    try:
        image = context.helper.pull_image()
        context.add_to_journal(helper_image=image, helper_capabilities=choose_capabilities(old))
        _require_bind_sources(context, old)
        _require_archivable(context, old)
    except (HelperFailed, PullFailed) as error:
        # Transient: helpers have their own image, so the release cannot be the cause.
        raise PreflightFailed(str(error), transient=True) from error
    _tag_old_image(context, old)


def list_snapshot_volumes(container: dict[str, Any]) -> list[str]:
    """Return the names of the volumes that an update archives, each once, in a fixed order."""
    return sorted({volume.name for volume in writable_volumes(container)})


def _require_allowed(context: UpdateContext) -> None:
    try:
        Allowlist.parse(context.settings.fleet_image_allowlist).require(parse_reference(context.release.repository))
    except ImageNotAllowed as error:
        raise PreflightFailed(str(error)) from None


def _require_running(context: UpdateContext) -> dict[str, Any]:
    old = containers.inspect(context.engine, context.update.old_container_id)
    if old is None:
        raise PreflightFailed(
            "The bot's container is gone. Start another one and attach it:"
            f" flotilla bots attach {context.bot.subdomain} CONTAINER"
        )
    if old["HostConfig"].get("AutoRemove"):
        raise PreflightFailed("The container was started with --rm: a stop deletes it. Create it again without --rm")
    if old["State"]["Paused"]:
        raise PreflightFailed("The container is paused. Unpause it first")
    if not old["State"]["Running"]:
        _record_stopped(context, old)
        raise NoUpdateNeeded(SkipReason.STOPPED)
    return old


def _record_stopped(context: UpdateContext, old: dict[str, Any]) -> None:
    """Record that the container has stopped, and let a worker start it if a crash of the engine is the cause.

    The update is skipped and becomes due again while or after the bot is started.
    """
    cause = read_stop_cause(context.node, old)
    with context.transaction() as (session, update):
        observations.record_stopped(session, update.bot, describe_stop(old), cause, utcnow())


def _require_permanent_name(context: UpdateContext, old: dict[str, Any]) -> None:
    name = containers.name_of_container(old)
    if not original_settings.is_temporary(name):
        return
    if first := original_settings.find_first_name(context, old):
        containers.rename(context.guarded_engine(), old["Id"], first)
    else:
        # An earlier rollback keeps the temporary name when another container has taken the name of the bot.
        raise PreflightFailed(
            f"The container still has the temporary name {name}, because another container had its name when an"
            " earlier update was rolled back. Rename it with docker rename"
        )


def _require_volumes(context: UpdateContext, old: dict[str, Any]) -> None:
    archived = list_snapshot_volumes(old)
    # The helper that takes the snapshots requires the volumes that it archives.
    for name in {mount["Name"] for mount in old["Mounts"] if mount["Type"] == "volume"}.difference(archived):
        try:
            context.engine.inspect_volume(name)
        except NotFound:
            raise PreflightFailed(f"Volume {name} does not exist on this node") from None
    for name in archived:
        for other in context.engine.containers(all=True, filters={"volume": name}):
            mounted = {mount.get("Name") for mount in other["Mounts"]}
            if other["Id"] == old["Id"] or name not in mounted:
                continue
            if not _is_leftover(context, other):
                raise PreflightFailed(
                    f"Volume {name} is also mounted by the container {other['Names'][0].lstrip('/')}, which could"
                    " write to it during a rollback. Remove that container first"
                )
            helper_containers.remove_helper(context.guarded_engine(), other["Id"])


def _is_leftover(context: UpdateContext, container: dict[str, Any]) -> bool:
    """Return whether an update of this bot left a container that holds no data.

    That is a helper, or a replacement that the engine created after the worker had given up waiting. The lease keeps
    other workers from using it.
    """
    labels = container["Labels"] or {}
    is_own = all(labels.get(label) == context.labels[label] for label in (INSTALL_LABEL, BOT_LABEL))
    names = [name.lstrip("/") for name in container["Names"]]
    is_unused = container["State"] == "created" and all(map(original_settings.is_temporary, names))
    return is_own and bool(names) and (is_unused or all(map(is_helper, names)))


def _require_bind_sources(context: UpdateContext, old: dict[str, Any]) -> None:
    # Only the engine can see folders of the node. It checks the sources of mounts when a container is created.
    sources = sorted({mount["Source"] for mount in old["Mounts"] if mount["Type"] == "bind"})
    if not sources:
        return
    mounts = [Mount(f"/binds/{n}", source, type="bind", read_only=True) for n, source in enumerate(sources)]
    engine, name = context.guarded_engine(), context.helper_name("probe")
    helper_containers.remove_helper(engine, name)
    try:
        engine.create_container(
            context.update.journal["helper_image"],
            name=name,
            command=["true"],
            labels=context.labels,
            host_config=engine.create_host_config(mounts=mounts),
        )
    except APIError as error:
        if error.status_code == 409:  # the engine has just carried out an earlier call that had no answer
            raise HelperLost(f"The engine refused the helper container: {error.explanation}") from error
        raise PreflightFailed(f"A folder that the container mounts is missing: {error.explanation}") from error
    finally:
        helper_containers.remove_helper(engine, name)


def _require_archivable(context: UpdateContext, old: dict[str, Any]) -> None:
    """Start the helper that takes the snapshots, and check what it finds."""
    volumes = list_snapshot_volumes(old)
    if not volumes:
        return
    context.snapshot_taker = SnapshotTaker(context.helper, volumes, context.node.snapshot_dir)
    found = context.snapshot_taker.inspect()
    context.add_to_journal(volume_sizes=[found.sizes.used, found.sizes.apparent])
    required = int(found.sizes.used * _SPACE_FACTOR)
    if found.free < required:
        raise PreflightFailed(
            f"{context.node.snapshot_dir} on node {context.node.name} has {found.free // 1_000_000} MB free, but the"
            f" snapshots may need {required // 1_000_000 + 1} MB. Free some space there",
            transient=True,
        )


def _tag_old_image(context: UpdateContext, old: dict[str, Any]) -> None:
    repository, tag = context.keep_tag
    try:
        context.guarded_engine().tag(old["Image"], repository, tag, force=True)
    except ImageNotFound:
        raise PreflightFailed(
            "The image of the container is gone, so a rollback would be impossible. Pull or load it again"
        ) from None
