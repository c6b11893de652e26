"""Tests of the error messages of forms."""

from __future__ import annotations

import pytest
from flask import Flask
from werkzeug.datastructures import MultiDict
from wtforms import IntegerField, RadioField, SelectChoice, SelectMultipleField, StringField
from wtforms.validators import DataRequired, Length

from portal.forms.base import Form


class _ExampleForm(Form):
    number = IntegerField("Number")
    kind = RadioField("Kind", choices=[SelectChoice("a", "A")])
    many = SelectMultipleField("Many", choices=[SelectChoice("x", "X")])
    why = StringField("Why", validators=[Length(max=3)])
    who = StringField("Who", validators=[DataRequired()])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("number", "ten", "Enter a whole number."),
        ("kind", "b", "Choose one of the options."),
        ("many", "{y}", "“{y}” is not an option. Choose another one."),
        ("why", "because", "Use at most 3 characters."),
        ("who", "", "Fill in this field."),
    ],
)
def test_message_for_invalid_input_says_what_to_enter(field: str, value: str, message: str) -> None:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="test", WTF_CSRF_ENABLED=False)
    entered = {"number": "1", "kind": "a", "many": "x", "why": "ok", "who": "me"} | {field: value}
    with app.test_request_context(method="POST"):
        form = _ExampleForm(MultiDict(entered))
        assert not form.validate()
        assert form[field].errors == [message]
