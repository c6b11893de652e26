"""What a form says of an input that makes no sense tells what to do."""

from __future__ import annotations

import pytest
from flask import Flask
from werkzeug.datastructures import MultiDict
from wtforms import IntegerField, RadioField, SelectChoice, SelectMultipleField, StringField
from wtforms.validators import DataRequired, Length

from portal.forms.base import Form


class _Wish(Form):
    number = IntegerField("Number")
    kind = RadioField("Kind", choices=[SelectChoice("a", "A")])
    many = SelectMultipleField("Many", choices=[SelectChoice("x", "X")])
    why = StringField("Why", validators=[Length(max=3)])
    who = StringField("Who", validators=[DataRequired()])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("number", "ten", "Enter a whole number."),
        ("kind", "b", "Choose one of those offered."),
        ("many", "{y}", "“{y}” is not offered; choose again."),
        ("why", "because", "Use at most 3 characters."),
        ("who", "", "Fill this in."),
    ],
)
def test_a_wrong_input_is_answered_with_what_to_do(field: str, value: str, words: str) -> None:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="test", WTF_CSRF_ENABLED=False)
    entered = {"number": "1", "kind": "a", "many": "x", "why": "ok", "who": "me"} | {field: value}
    with app.test_request_context(method="POST"):
        form = _Wish(MultiDict(entered))
        assert not form.validate()
        assert form[field].errors == [words]
