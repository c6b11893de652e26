"""The permission table, compared with the table in the product's design."""

import pytest

from portal.policy import Action, can
from portal.rules.roles import Role

PEOPLE = {Role.OWNER, Role.ADMIN, Role.MEMBER}
MANAGERS = {Role.OWNER, Role.ADMIN}
EXPECTED = {
    Action.MANAGE_TEAM: MANAGERS,
    Action.TRANSFER_OWNERSHIP: {Role.OWNER},
    Action.DELETE_ORG: {Role.OWNER},
    Action.OPERATE_BOTS: {*MANAGERS, Role.OPERATOR},
    Action.UPDATE_NOW: {*MANAGERS, Role.OPERATOR},
    Action.SET_UPDATE_PREFERENCES: {*MANAGERS, Role.OPERATOR},
    Action.SET_ORG: MANAGERS,
    Action.READ_AUDIT: {*MANAGERS, Role.OPERATOR},
    Action.SEE_BILLING: MANAGERS,
    Action.READ: {*PEOPLE, Role.OPERATOR},
    Action.READ_LOGS: set(Role),
    Action.OPEN_BOT: PEOPLE,
    Action.LEAVE: {Role.ADMIN, Role.MEMBER},
    Action.OVERRIDE_UPDATE_PREFERENCES: {Role.OPERATOR},
}


@pytest.mark.parametrize("action", Action)
def test_action_is_allowed_to_the_expected_roles_only(action: Action) -> None:
    assert {role for role in Role if can({role}, action)} == EXPECTED[action]


def test_several_roles_add_up_and_no_role_allows_nothing() -> None:
    assert can({Role.MEMBER, Role.OPERATOR}, Action.UPDATE_NOW)
    assert not any(can(set(), action) for action in Action)
