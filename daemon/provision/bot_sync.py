"""The sync of one bot: provision it, send its members, set its budget, compare its members. Used by `sync_jobs`.

Each call is built from the rows in one short transaction, sent outside of transactions, and recorded in another one.
So a process may be killed at any line: a call that was not recorded is sent again, and every call may be sent twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

from sqlalchemy.orm import Session

from daemon.provision.client import ProvisionClient
from daemon.provision.failures import BadAnswerError, CallFailed, NoAnswerError, RefusedError, StaleError
from portal.database import Database
from portal.models import utcnow
from portal.rules.member_drift import ListedMember
from portal.services.syncs import claims, company_calls, failures, member_calls, provision_secrets, reconciliation
from portal.services.syncs.claims import Claim
from portal.services.syncs.endpoints import Endpoint
from portal.services.syncs.failures import Failure, FailureKind
from portal.services.syncs.member_calls import CHANGE_ROLE, REMOVE, MemberCall
from portal.services.syncs.reconciliation import Reconciliation

_KINDS: dict[type[CallFailed], FailureKind] = {
    NoAnswerError: FailureKind.NO_ANSWER,
    BadAnswerError: FailureKind.BAD_ANSWER,
    RefusedError: FailureKind.REFUSED,
    StaleError: FailureKind.STALE,
}

Due = TypeVar("Due")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """How long the sync of one bot may take.

    Attributes:
        call_seconds: time limit of one exchange.
        ends_at: moment of `time.monotonic()` after which no further call is sent. What is left continues later.
    """

    call_seconds: float
    ends_at: float


class _Interrupted(Exception):
    """The sync ends here and continues later: the time is over, or the bot did not answer."""


def sync_bot(database: Database, claim: Claim, patience: Patience) -> None:
    """Send everything that is due to one bot, one call at a time, until nothing is left or the time is over.

    Args:
        database: the database.
        claim: the claim on the bot.
        patience: limits of time.

    Raises:
        ClaimLost: another worker has claimed the bot.
    """
    with suppress(_Interrupted):
        _BotSync(database, claim, patience).run()


class _BotSync:
    def __init__(self, database: Database, claim: Claim, patience: Patience) -> None:
        self._database = database
        self._claim = claim
        self._patience = patience
        self._accepted_secret: str | None = None
        self._has_answered = False
        self._is_rotating = False

    def run(self) -> None:
        """Send what is due: first the company, which members need, then members, with removals before others."""
        self._provision()
        self._send_members()
        self._set_budget()
        self._reconcile()

    def _provision(self) -> None:
        call = self._next(company_calls.next_provision_call)
        if call is None:
            return
        result = self._send(call.endpoint, lambda client: client.provision(call.tenant))
        with self._record(result) as session:
            if isinstance(result, Failure):
                company_calls.record_failure(session, self._claim, result, utcnow())
            else:
                company_calls.record_provisioned(session, self._claim, call, result, utcnow())

    def _send_members(self) -> None:
        while call := self._next(member_calls.next_call):
            self._send_member(call)

    def _send_member(self, call: MemberCall) -> None:
        change = (call.path, call.body, call.idempotency_key)
        result = self._send(call.endpoint, lambda client: client.change_member(*change))
        with self._record(result) as session:
            if not isinstance(result, Failure):
                member_calls.record_success(session, self._claim, call)
            elif call.path == CHANGE_ROLE and result.status == 404:
                member_calls.record_unknown_member(session, self._claim, call)
            else:
                member_calls.record_failure(session, self._claim, call, result, utcnow())

    def _set_budget(self) -> None:
        call = self._next(company_calls.next_budget_call)
        if call is None:
            return
        budget = (call.company_id, call.cents, call.per_agent_cents)
        result = self._send(call.endpoint, lambda client: client.set_budget(*budget))
        with self._record(result) as session:
            if isinstance(result, Failure):
                company_calls.record_failure(session, self._claim, result, utcnow())
            else:
                company_calls.record_budget(session, self._claim, call, utcnow())

    def _reconcile(self) -> None:
        due = self._next(reconciliation.begin)
        if due is None or not self._compare(due):
            return
        self._send_members()
        with self._database.transaction() as session:
            reconciliation.finish(session, self._claim, due, utcnow())

    def _compare(self, due: Reconciliation) -> bool:
        """Compare the members with those in the bot, and remove unknown ones. Return False if that failed."""
        listed = self._send(due.endpoint, lambda client: client.list_members(due.company_id))
        unknown: Sequence[ListedMember] = []
        with self._record(listed) as session:
            if isinstance(listed, Failure):
                company_calls.record_failure(session, self._claim, listed, utcnow())
            elif listed is None:
                reconciliation.record_no_list(session, self._claim, due)
            else:
                unknown = reconciliation.record_list(session, self._claim, due, listed, utcnow())
        if isinstance(listed, Failure):
            return False
        return all(self._remove_unknown(due, member) for member in unknown)

    def _remove_unknown(self, due: Reconciliation, member: ListedMember) -> bool:
        """Remove a member whom Flotilla does not know. Return False if that failed."""
        call = self._next(partial(reconciliation.next_removal, due=due, member=member))
        if call is None:
            return True
        result = self._send(call.endpoint, lambda client: client.change_member(REMOVE, call.body, call.key))
        with self._record(result) as session:
            if isinstance(result, Failure):
                company_calls.record_failure(session, self._claim, result, utcnow())
        return not isinstance(result, Failure)

    def _next(self, find: Callable[[Session, Claim, datetime], Due | None]) -> Due | None:
        """Find the next call in a short transaction, unless the time is over."""
        if time.monotonic() >= self._patience.ends_at:
            raise _Interrupted
        with self._database.transaction() as session:
            return find(session, self._claim, utcnow())

    def _send(self, endpoint: Endpoint, send: Callable[[ProvisionClient], Result]) -> Result | Failure:
        """Send a call outside of transactions. Return the result or the failure."""
        # A secret that was accepted before comes first, so that only the first call tries the next secret in vain.
        self._is_rotating = len(endpoint.secrets) > 1
        secrets = sorted(endpoint.secrets, key=lambda secret: secret != self._accepted_secret)
        client = ProvisionClient(endpoint.address, secrets, self._patience.call_seconds)
        try:
            return send(client)
        except CallFailed as error:
            return Failure(_KINDS[type(error)], str(error), getattr(error, "status", None))
        finally:
            self._accepted_secret = client.accepted_secret or self._accepted_secret

    @contextmanager
    def _record(self, result: object) -> Iterator[Session]:
        """Open the transaction that records a result, and record in it whether the bot answers."""
        has_answered = not (isinstance(result, Failure) and result.kind is FailureKind.NO_ANSWER)
        with self._database.transaction() as session:
            if self._is_rotating:
                claims.lock_bot(session, self._claim.bot_id)
            yield session
            if not has_answered:
                failures.record_no_answer(session, self._claim, utcnow())
            elif not self._has_answered:
                failures.record_answer(session, self._claim)
                self._has_answered = True
            if self._is_rotating and self._accepted_secret is not None:
                provision_secrets.record_accepted(session, self._claim.bot_id, self._accepted_secret)
        if not has_answered:
            raise _Interrupted
