"""The order in which a worker serves its queues."""

from __future__ import annotations

from redis import Redis

from daemon.rq_worker import BotWorker
from portal.queue import DEFAULT_QUEUE, updates_queue_name


def test_queues_of_nodes_are_served_in_turn_and_before_the_default_queue() -> None:
    names = [*map(updates_queue_name, "abc"), DEFAULT_QUEUE]
    worker = BotWorker(names, connection=Redis(), prepare_for_work=False)
    served = []
    for _ in range(6):  # every queue of a node always has work
        served.append(worker._ordered_queues[0].name)
        worker.reorder_queues(worker._ordered_queues[0])
    assert served == [*names[:3], *names[:3]]

    worker.reorder_queues(worker.queues[-1])
    assert [queue.name for queue in worker._ordered_queues] == names
