"""The check of a node: engine, platform, snapshots and free space. Used by `flotilla doctor`."""

from __future__ import annotations

from daemon.bots.leftover_collector import remove_short_lived
from daemon.engine.client import open_engine, rejecting_malformed_answers
from daemon.engine.labels import DOCTOR_ID_PREFIX, INSTALL_LABEL
from daemon.errors import OperationFailed
from daemon.snapshots.archives import SnapshotHelper
from portal.models import Node, new_id, utcnow

_MIN_FREE_BYTES = 1024**3


def check_node(node: Node, snapshot_image: str, install: str) -> str:
    """Check that the engine of a node answers, and that updates of its bots can take snapshots.

    Args:
        node: the node.
        snapshot_image: the image of the helper containers; it is pulled if the node lacks it.
        install: the id of this installation, for the label of the helpers.

    Returns:
        The state, for display.

    Raises:
        OperationFailed: a problem, and what to do.
        docker.errors.DockerException: the engine refused a call.
    """
    with open_engine(node) as engine, rejecting_malformed_answers(node):
        version = engine.version()
        platform = f"{version['Os']}/{version['Arch']}"
        if platform != node.platform:
            raise OperationFailed(f"the platform is {platform}, but the node was added as {node.platform}")
        remove_short_lived(engine, install, utcnow())
        # The id is unique, because two operators may run the check at the same time.
        labels = {INSTALL_LABEL: install}
        helper = SnapshotHelper(engine, snapshot_image, labels, f"{DOCTOR_ID_PREFIX}{new_id()}")
        helper.require_image()
        free_space = describe_free_space(helper.free_space(node.snapshot_dir), f"{node.snapshot_dir} on the node")
        return f"running, version {version['Version']}; snapshots possible; {free_space}"


def describe_free_space(free: int, where: str) -> str:
    """Describe the free space of a disk.

    Args:
        free: free bytes.
        where: the folder, for display.

    Raises:
        OperationFailed: it is too little.
    """
    if free < _MIN_FREE_BYTES:
        raise OperationFailed(f"only {free // 1024**2} MB are free in {where}; free some space")
    return f"{free // 1024**3} GB free in {where}"
