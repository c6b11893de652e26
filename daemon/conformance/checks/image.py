"""Checks of the image itself, without starting it: changelog and declared volumes."""

from __future__ import annotations

from daemon.conformance.outcomes import NotOffered, Violation, check
from daemon.conformance.trial import Trial
from daemon.registry.changelog_format import InvalidChangelog


@check("C11", "The changelog has the documented format")
def changelog_is_valid(trial: Trial) -> None:
    """Read the changelog as the platform does."""
    try:
        changelog = trial.lab.read_changelog(trial.image)
    except InvalidChangelog as error:
        raise Violation(str(error)) from error
    if changelog is None:
        raise NotOffered(
            "The image has no /app/changelogs/latest.json, so customers see no changes before an update."
        )


@check("C5", "The image declares no volumes but those of the bot")
def declared_volumes_are_used(trial: Trial) -> None:
    """Compare the declared volumes with the options."""
    others = sorted(set(trial.lab.list_declared_volumes(trial.image)) - set(trial.options.volumes))
    if others:
        raise Violation(f"The image declares {', '.join(others)}. If the bot needs it, add it with --volume.")


CHECKS = (changelog_is_valid, declared_volumes_are_used)
