"""Checks of hosted mode: who gets the page, by identity headers."""

from __future__ import annotations

from daemon.conformance import provision_calls as calls
from daemon.conformance.checks.provisioning import provision_health_is_open, provisioning_creates_company
from daemon.conformance.outcomes import Violation, check
from daemon.conformance.provision_calls import Person
from daemon.conformance.trial import Trial

ODD_NAMES = (
    "Zoë Ångström",
    "李小龙",
    "🦊 Fox",
    "מרים שלום",
    'Mary O\'Neil "MJ" <mj>',
    "100% & +more; a=b",
    "percent %41 %zz %",
    "{{ 7*7 }} ${x}",
    "back\\slash /slash",
    "Ω" * 200,
    "name " * 60,
)
"""Names that break bots that do not decode, escape or cap them. Some are longer than a header may be."""


@check("C12", "Hosted mode is on", provision_health_is_open)
def hosted_mode_is_on(trial: Trial) -> None:
    """Read what provision health said before."""
    if not trial.offer.hosted:
        raise Violation(
            f"{calls.HEALTH} answered managed: false. Name the variables that switch hosted mode on, for example:"
            " --env HOSTED_MODE=1."
        )


@check("C13", "Visitors without identity are refused", hosted_mode_is_on)
def no_identity_is_refused(trial: Trial) -> None:
    """Request the page without an id, also with the other headers of a real member."""
    prefix = trial.options.header_prefix
    owner = trial.provision().owner
    trial.open_page({}).expect(401, 403, when="without identity headers")
    others = calls.identity_headers(prefix, owner, "email", "name")
    trial.open_page(others).expect(401, 403, when="without the id header")
    trial.open_page({f"{prefix}-id": "", **others}).expect(401, 403, when="with an empty id header")


@check("C14", "Persons who are no members are refused", hosted_mode_is_on)
def stranger_is_refused(trial: Trial) -> None:
    """Request the page as a person whom the bot does not know."""
    trial.expect_entry(Person.create(), admitted=False, when="and whom it does not know")


@check("C15", "Members get the page", hosted_mode_is_on, provisioning_creates_company)
def members_get_the_page(trial: Trial) -> None:
    """Request the page as owner, admin and member."""
    company = trial.provision()
    trial.expect_entry(company.owner, admitted=True, when="who owns a company")
    for role in ("admin", "member"):
        trial.expect_entry(trial.add(company, role=role), admitted=True, when=f"with the role {role}")


@check("C15", "The id header suffices", members_get_the_page)
def id_header_suffices(trial: Trial) -> None:
    """Request the page without email and name."""
    owner = trial.provision().owner
    answer = trial.open_page(calls.identity_headers(trial.options.header_prefix, owner, "id"))
    if answer.status >= 400:
        raise Violation(f"{answer} to a member without email and name headers, expected the page.")


@check("C16", "Members with odd names get the page", members_get_the_page)
def odd_names_are_admitted(trial: Trial) -> None:
    """Add members with odd names, and request the page as each of them."""
    company = trial.provision()
    for name in ODD_NAMES:
        person = Person.create(name[:200])
        trial.add(company, person)
        trial.expect_entry(person, admitted=True, when=f"with the name {name[:20]!r}")


CHECKS = (
    hosted_mode_is_on,
    no_identity_is_refused,
    stranger_is_refused,
    members_get_the_page,
    id_header_suffices,
    odd_names_are_admitted,
)
