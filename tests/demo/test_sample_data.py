"""Sample rows of `make serve`: they contain every state of the member sync, and no worker changes them."""

from demo.sample_data import add_sample_data
from demo.seed import ORGS
from portal.database import Database
from portal.models import Bot, MembershipRole, utcnow
from portal.services.orgs import sync_status
from portal.services.orgs.sync_status import SyncProgress
from portal.services.syncs import selection, sync_list
from portal.services.syncs.bot_states import BotSyncState
from portal.services.syncs.sync_list import SyncFilter
from tests import factories


def test_sample_data_contains_every_state_of_the_member_sync_and_nothing_is_due(database: Database) -> None:
    with database.transaction() as session:
        factories.user(session, "root", is_platform_admin=True)
        for slug, name in ORGS.items():
            org = factories.org(session, factories.user(session, f"owner-{slug}"), slug, name=name)
            factories.membership(session, org, factories.user(session, f"admin-{slug}"), MembershipRole.ADMIN)
            factories.membership(session, org, factories.user(session, f"member-{slug}"))
        add_sample_data(session)

    with database.reading() as session:
        counts = sync_list.count_by_state(session, SyncFilter())
        assert {state for state, count in counts.items() if count} == set(BotSyncState)
        statuses = sync_status.load_statuses(session, Bot.org_id.is_not(None))
        found = {status.progress for of_user in statuses.values() for status in of_user}
        assert found == set(SyncProgress)
        assert selection.find_due(session, utcnow()).node_ids == [], "a worker would change the states"
