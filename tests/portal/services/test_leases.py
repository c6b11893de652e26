"""Named leases on real databases: one holder, growing fences, takeover after expiry."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from portal.database import Database
from portal.services import leases
from portal.services.leases import HeldLease

MINUTE = timedelta(minutes=1)
EXPIRED = timedelta(seconds=-1)


def acquire(database: Database, owner: str, lasting: timedelta = MINUTE) -> HeldLease | None:
    with database.transaction() as session:
        return leases.acquire(session, "scheduler", owner, lasting)


def test_of_concurrent_processes_one_acquires_the_lease(database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: acquire(database, f"process-{number}"), range(8)))

    assert [answer.fence for answer in answers if answer is not None] == [1]


def test_an_expired_lease_can_be_acquired_with_a_greater_fence(database: Database) -> None:
    first = acquire(database, "one", EXPIRED)
    second = acquire(database, "two")

    assert first is not None
    assert second is not None
    assert second.fence > first.fence


def test_the_former_holder_can_neither_renew_nor_release(database: Database) -> None:
    former = acquire(database, "one", EXPIRED)
    holder = acquire(database, "two")
    assert former is not None
    assert holder is not None

    with database.transaction() as session:
        assert not leases.renew(session, former, MINUTE)
        assert not leases.release(session, former)
    with database.transaction() as session:
        assert leases.renew(session, holder, MINUTE)


def test_an_expired_lease_cannot_be_renewed(database: Database) -> None:
    held = acquire(database, "one", EXPIRED)
    assert held is not None

    with database.transaction() as session:
        assert not leases.renew(session, held, MINUTE)


def test_a_released_lease_can_be_acquired_at_once(database: Database) -> None:
    held = acquire(database, "one")
    assert held is not None
    assert acquire(database, "two") is None

    with database.transaction() as session:
        assert leases.release(session, held)

    assert acquire(database, "two") is not None
