"""`flotilla template`: show and change the settings of new bots."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from enum import StrEnum
from typing import Any

import click

from daemon.commands.output import print_text
from daemon.context import current_context
from portal.models import Channel, HealthExpectation, utcnow
from portal.rules import container_settings
from portal.rules.allowlist import Allowlist
from portal.services.bots import bot_template
from portal.services.bots.bot_template import TemplateValues

_CLEARED = ("image", "gateway_url", "api_key", "memory_mb", "cpu_millis", "pids_limit", "per_agent_budget_cents")
"""Settings that an empty value or 0 removes."""

Callback = Callable[[click.Context, click.Parameter, Any], Any]


def _if_given(convert: Callable[[Any], Any]) -> Callback:
    """Return a callback that converts the value of an option, and None where the option is not given."""

    def run(_context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            return None if value is None or value == () else convert(value)
        except container_settings.InvalidLine as error:
            raise click.BadParameter(str(error), param=parameter) from None

    return run


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise click.BadParameter("The file contains no JSON.") from None


def _enum_option(flag: str, name: str, kind: type[StrEnum], text: str) -> Callable[[Any], Any]:
    choice = click.Choice([member.value for member in kind])
    return click.option(flag, name, type=choice, callback=_if_given(kind), help=text)


def _list_option(flag: str, name: str, convert: Callable[[Any], Any], text: str) -> Callable[[Any], Any]:
    return click.option(flag, name, multiple=True, callback=_if_given(convert), help=f"{text} Repeatable.")


def _file_option(flag: str, name: str, convert: Callable[[str], Any], text: str) -> Callable[[Any], Any]:
    def read(path: str) -> Any:
        with click.open_file(path, encoding="utf-8") as file:
            try:
                text = file.read()
            except UnicodeDecodeError:
                raise click.BadParameter("The file is not UTF-8 text.") from None
        return convert(text)

    kind = click.Path(exists=True, dir_okay=False, allow_dash=True)
    return click.option(flag, name, type=kind, callback=_if_given(read), help=f"File with {text}; - reads the input.")


@click.group()
def template() -> None:
    """Manage the bot template, the settings of new bots. Existing bots keep their settings."""


@template.command()
def show() -> None:
    """Show the template. Of secrets it shows only whether they are set."""
    with current_context().database.reading() as session:
        values = bot_template.read_values(bot_template.get_template(session))
    for entry in fields(values):
        print_text(f"{entry.name.replace('_', ' '):24}{_describe(values, entry.name)}")


@template.command("set")
@click.option("--image", help="Image with tag that new bots follow.")
@_enum_option("--channel", "release_channel", Channel, "Release channel: how often the image is polled.")
@_file_option(
    "--env-file", "new_variables", container_settings.parse_variables, "variables to add, one NAME=value per line"
)
@_list_option("--unset-env", "unset_variables", set, "Variable to remove.")
@_list_option(
    "--hosted-env",
    "hosted_environment",
    lambda lines: container_settings.parse_variables("\n".join(lines)),
    "NAME=value that switches the image to hosted mode.",
)
@click.option("--port", type=int, help="Port on which a bot listens in its container.")
@click.option("--health-path", help="Path of the health check.")
@_enum_option(
    "--health-expectation",
    "health_expectation",
    HealthExpectation,
    "Healthy means JSON whose status is ok, or any status from 200 to 299.",
)
@_list_option(
    "--volume", "volumes", lambda paths: [path for path in paths if path], "Path of a volume in the container."
)
@click.option("--memory-mb", type=int, help="Memory limit in megabytes. 0 removes the limit.")
@click.option("--cpu-millis", type=int, help="CPU limit in thousandths of a CPU. 0 removes the limit.")
@click.option("--pids-limit", type=int, help="Largest number of processes. 0 removes the limit.")
@_list_option(
    "--capability",
    "capabilities",
    lambda names: [container_settings.normalize_capability(name) for name in names if name],
    "Linux capability to keep.",
)
@click.option("--header-prefix", help="Beginning of the names of the identity headers.")
@click.option("--secret-variable", help="Variable that contains the provision secret.")
@click.option("--gateway-url", help="Address of the model gateway, for the bot's agents. Empty removes it.")
@_file_option("--api-key-file", "api_key", str.strip, "the API key of the model gateway")
@click.option("--budget-cents", type=int, help="Monthly budget of a new bot, in cents.")
@click.option("--per-agent-budget-cents", type=int, help="Monthly budget of each agent, in cents. 0 removes it.")
@_file_option("--agents-file", "agents", _parse_json, "a JSON list of the agents that a new bot gets")
@_file_option("--extra-file", "extra", _parse_json, "a JSON object that a new bot gets")
@click.option(
    "--create-for-new-orgs/--no-create-for-new-orgs",
    default=None,
    help="Whether every new organization gets a bot automatically.",
)
def set_(new_variables: dict[str, str] | None, unset_variables: set[str] | None, **options: Any) -> None:
    """Change the given settings. A repeatable option replaces all earlier values; an empty value removes them."""
    context = current_context()
    if new_variables is None and unset_variables is None and all(value is None for value in options.values()):
        raise click.UsageError("Name at least one setting to change.")
    changes: dict[str, Any] = {
        name: value if value or name not in _CLEARED else None for name, value in options.items() if value is not None
    }
    with context.database.transaction() as session:
        row = bot_template.lock_template(session)
        values = bot_template.read_values(row)
        unset = unset_variables or set()
        kept = {name: value for name, value in values.environment.items() if name not in unset}
        bot_template.change_template(
            session,
            Allowlist.parse(context.settings.fleet_image_allowlist),
            replace(values, environment=kept | (new_variables or {}), **changes),
            seen=row.version,
            now=utcnow(),
            actor=None,
        )
    click.echo("Saved the bot template. Existing bots keep their settings.")


def _describe(values: TemplateValues, name: str) -> str:
    value = getattr(values, name)
    match name:
        case "api_key":
            text = "set" if value else "not set"
        case "environment":
            text = ", ".join(f"{variable} (set)" for variable in sorted(value))
        case "hosted_environment":
            text = ", ".join(f"{variable}={content}" for variable, content in value.items())
        case "volumes" | "capabilities":
            text = ", ".join(value)
        case "agents" | "extra":
            text = json.dumps(value)
        case "create_for_new_orgs":
            text = "yes" if value else "no"
        case _:
            text = "" if value is None else str(value)
    return text or "-"
