"""Everything that can be known to go wrong before a bot is stopped."""

from __future__ import annotations

from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound
from docker.types import Mount

from daemon.engine import containers
from daemon.engine.client import PullFailed
from daemon.engine.labels import container_name, update_id_of
from daemon.engine.recreate.mounts import writable_volumes
from daemon.errors import OperationFailed
from daemon.snapshots import helper_containers
from daemon.snapshots.helper_containers import HelperFailed
from daemon.update.update_context import UpdateContext
from portal.models import SkipReason
from portal.rules.allowlist import Allowlist, ImageNotAllowed
from portal.rules.references import parse_reference

_ROOM = 1.2
"""Free space for each byte of the volumes, since an archive is a little larger than what it holds."""


class PreflightFailed(OperationFailed):
    """The update was not begun; the text says what stands in its way."""


class NoUpdateNeeded(Exception):
    """The bot is to be left as it is."""

    def __init__(self, reason: SkipReason) -> None:
        super().__init__(str(reason))
        self.reason = reason


def preflight(context: UpdateContext) -> None:
    """Check that the update can be carried out and taken back, and keep the old image from being pruned.

    Raises:
        NothingToDo: the bot is stopped.
        PreflightFailed: with the reason; nothing was changed.
        EngineUnreachable: the node does not answer.
    """
    _require_allowed(context)
    old = _require_running(context)
    _require_name_of_its_own(old)
    _require_volumes(context, old)
    try:
        context.note(helper_image=context.helper.require_image())
        _require_bind_sources(context, old)
        _require_space(context, old)
    except (HelperFailed, PullFailed) as error:
        # Helpers have an image of their own, and the bot still serves: whatever ails them, it is not the release.
        raise PreflightFailed(str(error), transient=True) from error
    _keep_image(context, old)


def list_snapshot_volumes(container: dict[str, Any]) -> list[str]:
    """Names of the volumes an update must be able to bring back, each once, in a fixed order."""
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
            "the bot's container is gone; start the one that takes its place and make it known with"
            f" flotilla bots attach {context.bot.subdomain} CONTAINER"
        )
    if old["HostConfig"].get("AutoRemove"):
        raise PreflightFailed("the container was started with --rm: stopping it would delete it; create it without")
    if old["State"]["Paused"]:
        raise PreflightFailed("the container is paused; unpause it first")
    if not old["State"]["Running"]:
        raise NoUpdateNeeded(SkipReason.STOPPED)
    return old


def _require_name_of_its_own(old: dict[str, Any]) -> None:
    # One that was set aside bears a temporary name, until it gets its own back.
    name = containers.name_of_container(old)
    if update_id_of(name):
        raise PreflightFailed(
            f"the container is still called {name}, for its own name was taken when an earlier update went back;"
            " give it a name with docker rename"
        )


def _require_volumes(context: UpdateContext, old: dict[str, Any]) -> None:
    for name in {mount["Name"] for mount in old["Mounts"] if mount["Type"] == "volume"}:
        try:
            context.engine.inspect_volume(name)
        except NotFound:
            raise PreflightFailed(f"the volume {name} does not exist on this node") from None
    for name in list_snapshot_volumes(old):
        for other in context.engine.containers(all=True, filters={"volume": name}):
            mounted = {mount.get("Name") for mount in other["Mounts"]}
            if other["Id"] != old["Id"] and name in mounted:
                raise PreflightFailed(
                    f"the volume {name} is also mounted by the container {other['Names'][0].lstrip('/')}:"
                    " its data cannot be taken back while others write to it; remove that container"
                )


def _require_bind_sources(context: UpdateContext, old: dict[str, Any]) -> None:
    # Only the node sees its own folders, and its engine checks the sources of a mount when a container is created.
    sources = sorted({mount["Source"] for mount in old["Mounts"] if mount["Type"] == "bind"})
    if not sources:
        return
    mounts = [Mount(f"/binds/{n}", source, type="bind", read_only=True) for n, source in enumerate(sources)]
    engine, name = context.guarded_engine(), container_name(context.update.id, "probe")
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
        raise PreflightFailed(f"a folder the container mounts is missing: {error.explanation}") from error
    finally:
        helper_containers.remove_helper(engine, name)


def _require_space(context: UpdateContext, old: dict[str, Any]) -> None:
    size = context.helper.measure(list_snapshot_volumes(old))
    free = context.helper.free_space(context.node.snapshot_dir)
    context.note(volumes_size=size)
    if free < size * _ROOM:
        raise PreflightFailed(
            f"{context.node.snapshot_dir} on node {context.node.name} has {free // 1_000_000} MB free, but the snapshots may"
            f" take {int(size * _ROOM) // 1_000_000 + 1} MB; make room there",
            transient=True,
        )


def _keep_image(context: UpdateContext, old: dict[str, Any]) -> None:
    repository, tag = context.keep_tag
    try:
        context.guarded_engine().tag(old["Image"], repository, tag, force=True)
    except ImageNotFound:
        raise PreflightFailed(
            "the image the container was made from is gone, so it could not be brought back; pull or load it again"
        ) from None
