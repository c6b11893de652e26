"""The table of roles: complete for every stored and every sent role, and ordered like the permissions."""

from portal.policy import ALLOWED
from portal.rules.roles import ASSIGNABLE_ROLES, ROLES, MembershipRole, Role, SyncRole, outranks


def test_table_describes_every_role_of_an_organization() -> None:
    assert set(ROLES) == set(Role) - {Role.OPERATOR}
    assert set(MembershipRole) == set(ROLES) - {Role.OWNER}


def test_every_role_is_sent_to_bots_as_a_known_role() -> None:
    assert {role: info.sync_role for role, info in ROLES.items()} == {
        Role.OWNER: SyncRole.OWNER,
        Role.ADMIN: SyncRole.ADMIN,
        Role.MEMBER: SyncRole.MEMBER,
    }


def test_rank_follows_the_number_of_permissions() -> None:
    by_rank = sorted(ROLES, key=lambda role: ROLES[role].rank)
    assert by_rank == sorted(ROLES, key=lambda role: len(ALLOWED[Role(role)]))
    assert len({info.rank for info in ROLES.values()}) == len(ROLES)


def test_owner_cannot_be_assigned_and_the_weakest_role_comes_first() -> None:
    assert ASSIGNABLE_ROLES == (MembershipRole.MEMBER, MembershipRole.ADMIN)


def test_only_a_stronger_role_outranks() -> None:
    assert outranks(MembershipRole.ADMIN, MembershipRole.MEMBER)
    assert not outranks(MembershipRole.MEMBER, MembershipRole.ADMIN)
    assert not outranks(MembershipRole.ADMIN, MembershipRole.ADMIN)
