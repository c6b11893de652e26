"""Forms about the bot template and about creating and removing bots. Used by pages of operators and of bots."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from wtforms import (
    BooleanField,
    Field,
    IntegerField,
    PasswordField,
    RadioField,
    SelectChoice,
    SelectField,
    SelectMultipleField,
    StringField,
    TextAreaField,
)
from wtforms.validators import InputRequired, Length, Optional, ValidationError
from wtforms.widgets import CheckboxInput, ListWidget

from portal.forms.base import Form, strip_whitespace
from portal.forms.orgs import VersionedForm
from portal.models import Channel, HealthExpectation
from portal.rules import container_settings

_CHANNELS: dict[StrEnum, str] = {
    Channel.CANARY: "Canary: checked every 5 minutes, updated first",
    Channel.STAGING: "Staging: checked every 15 minutes",
    Channel.STABLE: "Stable: checked every 30 minutes",
    Channel.PINNED: "Pinned: never checked or updated automatically",
}
_EXPECTATIONS: dict[StrEnum, str] = {
    HealthExpectation.JSON_STATUS_OK: "Status 200 and JSON whose “status” is “ok”",
    HealthExpectation.ANY_2XX: "Any status from 200 to 299",
}
_REMOVALS = {
    "keep": "Keep its data: it stays stored, but out of use",
    "delete": "Delete its data: it is lost when the bot is removed",
}


def _choices(labels: Mapping[StrEnum, str]) -> list[SelectChoice]:
    return [SelectChoice(str(value), label) for value, label in labels.items()]


class _ParsedField(TextAreaField, ABC):  # type: ignore[misc]  # the library has no types
    """A text area whose text is parsed; invalid text is shown again with the error."""

    def process_formdata(self, valuelist: list[str]) -> None:
        """Parse the posted text.

        Raises:
            ValueError: the text cannot be parsed; the message says why.
        """
        self.data = self.parse("")
        self.data = self.parse(valuelist[0] if valuelist else "")

    @abstractmethod
    def parse(self, text: str) -> Any:
        """Return the value of a text, which may be empty."""

    @abstractmethod
    def format(self, value: Any) -> str:
        """Return the text of a value."""

    def _value(self) -> str:
        if self.raw_data:
            return str(self.raw_data[0])
        return self.format(self.data) if self.data else ""


class VariablesField(_ParsedField):
    """Environment variables, one `NAME=value` per line."""

    def parse(self, text: str) -> Any:
        """Return the variables by name."""
        return container_settings.parse_variables(text)

    def format(self, value: Any) -> str:
        """Return one line per variable."""
        return "\n".join(f"{name}={text}" for name, text in value.items())


class SecretVariablesField(VariablesField):
    """Environment variables with secret values, which are never shown, not even after an error in another field."""

    def _value(self) -> str:
        return ""


class WordsField(_ParsedField):
    """Words that are separated by blanks or line breaks."""

    def parse(self, text: str) -> Any:
        """Return the words."""
        return text.split()

    def format(self, value: Any) -> str:
        """Return one line per word."""
        return "\n".join(value)


class JSONField(_ParsedField):
    """A JSON value."""

    def parse(self, text: str) -> Any:
        """Return the value; None for an empty text.

        Raises:
            ValueError: the text is not JSON.
        """
        try:
            return json.loads(text) if text.strip() else None
        except (ValueError, RecursionError):
            raise ValueError("This is not JSON.") from None

    def format(self, value: Any) -> str:
        """Return the value as indented JSON."""
        return json.dumps(value, indent=2)


def _limit_field(label: str) -> IntegerField:
    return IntegerField(label, validators=[Optional()])


def _text_field(label: str) -> StringField:
    return StringField(label, validators=[Length(max=300)], filters=[strip_whitespace])


def _number_field(label: str) -> IntegerField:
    return IntegerField(label, validators=[InputRequired("Enter a number.")])


class BotTemplateForm(VersionedForm):
    """Edit the settings of new bots. Secrets can be replaced, but are not shown."""

    image = _text_field("Image")
    release_channel = SelectField("Channel", choices=_choices(_CHANNELS))
    port = _number_field("Port")
    health_path = _text_field("Health path")
    health_expectation = RadioField(
        "A bot is healthy if it answers",
        choices=_choices(_EXPECTATIONS),
    )
    volumes = WordsField("Volumes")
    memory_mb = _limit_field("Memory (MB)")
    cpu_millis = _limit_field("CPU (thousandths)")
    pids_limit = _limit_field("Processes")
    capabilities = WordsField("Linux capabilities")
    new_variables = SecretVariablesField("Add or replace variables")
    removed_variables = SelectMultipleField(
        "Variables to remove",
        validators=[Optional()],
        widget=ListWidget(prefix_label=False),
        option_widget=CheckboxInput(),
    )
    hosted_environment = VariablesField("Hosted mode")
    header_prefix = _text_field("Prefix of the identity headers")
    secret_variable = _text_field("Variable of the provision secret")
    gateway_url = _text_field("Model gateway")
    api_key = PasswordField("API key of the model gateway", validators=[Length(max=1000)])
    remove_api_key = BooleanField("Remove the API key")
    budget_cents = _number_field("Budget (cents)")
    per_agent_budget_cents = _limit_field("Per agent (cents)")
    agents = JSONField("Agents")
    extra = JSONField("Extra")
    create_for_new_orgs = BooleanField("Every new organization gets a bot")

    def offer_removal(self, names: list[str]) -> None:
        """Set the names of the variables that can be removed."""
        self.removed_variables.choices = [SelectChoice(name, name) for name in names]

    def read_settings(self, environment: dict[str, str], api_key: str | None) -> dict[str, Any]:
        """Return all settings, given the secrets that are stored now."""
        values = {field.name: field.data for field in self if field.name in _PLAIN}
        kept = {name: text for name, text in environment.items() if name not in (self.removed_variables.data or [])}
        kept_key = None if self.remove_api_key.data else api_key
        return {
            **values,
            "image": self.image.data or None,
            "gateway_url": self.gateway_url.data or None,
            "release_channel": Channel(self.release_channel.data),
            "health_expectation": HealthExpectation(self.health_expectation.data),
            "capabilities": [container_settings.normalize_capability(name) for name in self.capabilities.data],
            "agents": [] if self.agents.data is None else self.agents.data,
            "extra": {} if self.extra.data is None else self.extra.data,
            "environment": {**kept, **self.new_variables.data},
            "api_key": self.api_key.data or kept_key,
        }

    def field_of(self, setting: str) -> Field:
        """Return the field in which a setting is entered."""
        return self["new_variables" if setting == "environment" else setting]


_PLAIN = frozenset(
    {
        "port",
        "health_path",
        "volumes",
        "memory_mb",
        "cpu_millis",
        "pids_limit",
        "hosted_environment",
        "header_prefix",
        "secret_variable",
        "budget_cents",
        "per_agent_budget_cents",
        "create_for_new_orgs",
    }
)
"""Settings that are entered as they are stored."""


class NewBotForm(Form):
    """Create a bot from the template."""

    name = _text_field("Name")
    subdomain = _text_field("Subdomain")
    node = SelectField("Node")

    def offer_nodes(self, names: list[str]) -> None:
        """Set the names of the nodes that can be chosen."""
        automatic = SelectChoice("", "The node with the fewest bots")
        self.node.choices = [automatic, *(SelectChoice(name, name) for name in names)]


class RemoveBotForm(Form):
    """Remove a bot, with an explicit choice about its data. Its name confirms the request."""

    data_choice = RadioField(
        "What happens to its data",
        choices=[SelectChoice(key, text) for key, text in _REMOVALS.items()],
        validators=[InputRequired("Choose what happens to the data.")],
    )
    name = StringField("Name of the bot", filters=[strip_whitespace])

    def require_name(self, name: str) -> None:
        """Accept the form only if the name of the bot was typed."""

        def check(_form: Form, field: Field) -> None:
            if field.data != name.strip():
                raise ValidationError(f"Type the name of the bot exactly: {name}")

        self.name.validators = [check]

    @property
    def keeps_data(self) -> bool:
        """Whether the data is kept."""
        return bool(self.data_choice.data == "keep")
