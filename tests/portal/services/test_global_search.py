"""Search over everything: what is found by what, order, limits, and characters with a meaning in SQL."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from portal.database import Database
from portal.models import BotPhase
from portal.services import global_search
from portal.services.global_search import MAX_RESULTS, SearchResults
from tests import factories


@dataclass
class Fleet:
    """An organization with a bot, a release and a rollout."""

    database: Database
    bot_id: str
    rollout_id: str

    def search(self, text: str) -> SearchResults:
        """Search for a text."""
        with self.database.reading() as session:
            return global_search.search(session, text)


@pytest.fixture
def fleet(database: Database) -> Fleet:
    """Add the fleet."""
    with database.transaction() as session:
        org = factories.org(session, factories.user(session, "olga"), "acme", name="Acme Paper")
        node = factories.node(session)
        bot = factories.bot(session, org, node, name="Front desk", subdomain="desk")
        factories.bot(session, org, node, name="Removed desk", phase=BotPhase.REMOVED)
        rollout = factories.rollout(session, factories.release(session, "2.1.0"))
    return Fleet(database, bot.id, rollout.id)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("", set()),
        ("  DESK ", {"bots"}),
        ("acme", {"orgs"}),
        ("paper", {"orgs"}),
        ("olga@", {"people"}),
        ("2.1", {"rollouts", "releases"}),
        ("%", set()),
        ("_", set()),
        ("' OR 1=1 --", set()),
    ],
)
def test_text_finds_parts_of_names(fleet: Fleet, text: str, kinds: set[str]) -> None:
    found = fleet.search(text)
    assert {kind for kind in vars(found) if getattr(found, kind)} == kinds


def test_id_finds_its_row(fleet: Fleet) -> None:
    assert [bot.id for bot in fleet.search(fleet.bot_id).bots] == [fleet.bot_id]
    assert [rollout.id for rollout in fleet.search(fleet.rollout_id).rollouts] == [fleet.rollout_id]


def test_names_that_begin_with_the_text_come_first_and_the_number_is_limited(database: Database) -> None:
    with database.transaction() as session:
        owner = factories.user(session)
        for number in range(MAX_RESULTS):
            factories.org(session, owner, f"old-north-{number}", name=f"A north {number}")
        factories.org(session, owner, "north", name="North")
        found = global_search.search(session, "north").orgs
    assert found[0].name == "North"
    assert len(found) == MAX_RESULTS
