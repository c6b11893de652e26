"""The permission table, as the product promises it."""

import pytest

from portal.policy import Action, Role, can

EVERYBODY = {Role.OWNER, Role.ADMIN, Role.MEMBER}
MANAGERS = {Role.OWNER, Role.ADMIN}
PROMISED = {
    Action.MANAGE_TEAM: MANAGERS,
    Action.TRANSFER_OWNERSHIP: {Role.OWNER},
    Action.DELETE_ORG: {Role.OWNER},
    Action.OPERATE_BOTS: {*MANAGERS, Role.OPERATOR},
    Action.UPDATE_NOW: {*MANAGERS, Role.OPERATOR},
    Action.SET_UPDATE_PREFERENCES: {*MANAGERS, Role.OPERATOR},
    Action.SET_ORG: MANAGERS,
    Action.READ_AUDIT: {*MANAGERS, Role.OPERATOR},
    Action.SEE_BILLING: MANAGERS,
    Action.READ: {*EVERYBODY, Role.OPERATOR},
    Action.OPEN_BOT: EVERYBODY,
    Action.LEAVE: {Role.ADMIN, Role.MEMBER},
    Action.OVERRIDE_UPDATE_PREFERENCES: {Role.OPERATOR},
    Action.LEAVE: {Role.ADMIN, Role.MEMBER},
    Action.OVERRIDE_UPDATE_PREFERENCES: {Role.OPERATOR},
}


@pytest.mark.parametrize("action", Action)
def test_each_action_belongs_to_whom_it_was_promised(action: Action) -> None:
    assert {role for role in Role if can({role}, action)} == PROMISED[action]


def test_several_roles_add_up_and_none_allows_nothing() -> None:
    assert can({Role.MEMBER, Role.OPERATOR}, Action.UPDATE_NOW)
    assert not any(can(set(), action) for action in Action)
