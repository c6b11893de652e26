"""Who may enter a bot: a table of cases, and properties over all combinations."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from portal.rules.bot_access import Access, AccessFacts, SyncFacts, decide, find_role_in_bot
from portal.rules.roles import SyncRole

OWNER, ADMIN, MEMBER, NONE = SyncRole.OWNER, SyncRole.ADMIN, SyncRole.MEMBER, SyncRole.NONE
RANKS = [NONE, MEMBER, ADMIN, OWNER]


def sync(observed: SyncRole | None, observed_epoch: int | None = 2, version: int = 3, **values: Any) -> SyncFacts:
    """Return facts about a bot in epoch 2."""
    return SyncFacts(
        **{
            "is_provisioned": True,
            "epoch": 2,
            "desired_version": version,
            "observed_role": observed,
            "observed_version": version,
            "observed_epoch": observed_epoch,
            **values,
        }
    )


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (AccessFacts(role=NONE), Access.NOT_FOUND),
        (AccessFacts(role=NONE, is_stopped=True), Access.NOT_FOUND),
        (AccessFacts(role=NONE, is_updating=True), Access.NOT_FOUND),
        (AccessFacts(role=OWNER, is_org_active=False), Access.NOT_FOUND),
        (AccessFacts(role=OWNER, is_removed=True), Access.NOT_FOUND),
        (AccessFacts(role=MEMBER), Access.ENTER),
        (AccessFacts(role=MEMBER, is_being_created=True), Access.PROVISIONING),
        (AccessFacts(role=MEMBER, is_being_removed=True, is_stopped=True), Access.REMOVING),
        (AccessFacts(role=NONE, is_being_removed=True), Access.NOT_FOUND),
        (AccessFacts(role=MEMBER, is_stopped=True), Access.STOPPED),
        (AccessFacts(role=MEMBER, is_stopped=True, is_updating=True), Access.STOPPED),
        (AccessFacts(role=MEMBER, is_updating=True), Access.UPDATING),
        # A bot with member sync.
        (AccessFacts(role=MEMBER, sync=sync(MEMBER, is_provisioned=False)), Access.PROVISIONING),
        (AccessFacts(role=MEMBER, sync=sync(None, None)), Access.PROVISIONING),
        (AccessFacts(role=MEMBER, sync=sync(NONE)), Access.PROVISIONING),
        (AccessFacts(role=MEMBER, sync=sync(MEMBER)), Access.ENTER),
        (AccessFacts(role=ADMIN, sync=sync(MEMBER)), Access.ENTER),  # a raise keeps the old rights
        (AccessFacts(role=MEMBER, sync=sync(ADMIN)), Access.CHANGING),  # the demotion is not confirmed
        (AccessFacts(role=ADMIN, sync=sync(OWNER)), Access.CHANGING),
        (AccessFacts(role=OWNER, sync=sync(OWNER)), Access.ENTER),
        # The bot may know a role between the confirmed and the desired one.
        (AccessFacts(role=ADMIN, sync=sync(MEMBER, observed_version=2)), Access.ENTER),
        (AccessFacts(role=MEMBER, sync=sync(MEMBER, observed_version=1)), Access.CHANGING),
        (AccessFacts(role=MEMBER, sync=sync(MEMBER, observed_version=None)), Access.CHANGING),
        (AccessFacts(role=OWNER, sync=sync(MEMBER, observed_version=1)), Access.ENTER),
        (AccessFacts(role=MEMBER, sync=sync(MEMBER), is_updating=True), Access.UPDATING),
        (AccessFacts(role=MEMBER, sync=sync(ADMIN), is_updating=True), Access.CHANGING),
        # The data was restored after the confirmation.
        (AccessFacts(role=MEMBER, sync=sync(MEMBER, 1)), Access.CHANGING),  # may have been an admin before
        (AccessFacts(role=MEMBER, sync=sync(NONE, 1, version=1)), Access.PROVISIONING),  # the bot had lost the person
        (AccessFacts(role=MEMBER, sync=sync(MEMBER, 1, version=1)), Access.ENTER),  # was never anything else
        (AccessFacts(role=OWNER, sync=sync(ADMIN, 1)), Access.ENTER),  # nothing is above the owner
        (AccessFacts(role=ADMIN, sync=sync(ADMIN, 1)), Access.CHANGING),
    ],
)
def test_decisions(facts: AccessFacts, expected: Access) -> None:
    assert decide(facts) is expected


def test_a_person_with_unconfirmed_rights_never_enters() -> None:
    cases = product(RANKS, [None, *RANKS], [None, 1, 2], [1, 5], [0, 1, 2])
    for role, observed, epoch, version, unconfirmed in cases:
        facts = AccessFacts(role=role, sync=sync(observed, epoch, version, observed_version=version - unconfirmed))
        if decide(facts) is Access.ENTER:
            assert role is not NONE
            assert observed is not None
            had_more = RANKS.index(observed) > RANKS.index(role) or unconfirmed > 1
            could_have_more = had_more if epoch == 2 else version > 1
            assert not could_have_more or role is OWNER


def test_the_role_in_the_bot_is_the_confirmed_one() -> None:
    assert find_role_in_bot(AccessFacts(role=ADMIN)) is ADMIN
    assert find_role_in_bot(AccessFacts(role=ADMIN, sync=sync(MEMBER))) is MEMBER
    assert find_role_in_bot(AccessFacts(role=MEMBER, sync=sync(OWNER))) is MEMBER
    assert find_role_in_bot(AccessFacts(role=MEMBER, sync=sync(None, None))) is MEMBER
