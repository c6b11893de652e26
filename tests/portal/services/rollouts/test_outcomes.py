"""Outcomes of updates, as the worker records them."""

from __future__ import annotations

import sqlalchemy as sa

from portal.database import Database
from portal.models import BotUpdate
from portal.services.rollouts import outcomes
from tests import factories

LOG = "calling home with current-secret, next-secret and shared-api-key"


def test_the_log_of_a_failed_update_is_kept_without_the_secrets_of_the_bot(database: Database) -> None:
    with database.transaction() as session:
        org = factories.org(session, factories.user(session))
        factories.bot_template(session, api_key="shared-api-key")
        secrets = {"current": "current-secret", "next": "next-secret"}
        bot = factories.bot(session, org, factories.node(session), provision_secret=secrets)
        update = factories.update(session, factories.rollout(session, factories.release(session)), bot)
        outcomes.mark_failed(session, update, "not healthy", LOG)
    with database.reading() as session:
        assert session.get_one(BotUpdate, update.id).log_tail == "calling home with ***, *** and ***"


def test_the_log_of_a_failed_update_is_kept_without_the_values_of_secret_variables(database: Database) -> None:
    with database.transaction() as session:
        bot = factories.bot(session, factories.org(session, factories.user(session)), factories.node(session))
        saved = {"container": {"Config": {"Env": ["MODE=production", "API_TOKEN=s3cret-1"]}}}
        update = factories.update(
            session, factories.rollout(session, factories.release(session)), bot, saved_container=saved
        )
        outcomes.mark_failed(session, update, "not healthy", "s3cret-1 in production")
    with database.reading() as session:
        assert session.get_one(BotUpdate, update.id).log_tail == "*** in production"


def test_a_verdict_does_not_depend_on_the_api_key_of_the_template(database: Database) -> None:
    with database.transaction() as session:
        org = factories.org(session, factories.user(session))
        session.execute(sa.text("UPDATE bot_templates SET api_key = 'not a ciphertext'"))
        bot = factories.bot(session, org, factories.node(session))
        update = factories.update(session, factories.rollout(session, factories.release(session)), bot)
        outcomes.mark_failed(session, update, "not healthy", LOG)
    with database.reading() as session:
        assert session.get_one(BotUpdate, update.id).log_tail == LOG
