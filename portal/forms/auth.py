"""Forms for signing up, signing in and setting a forgotten password."""

from __future__ import annotations

from wtforms import EmailField, HiddenField, PasswordField, StringField
from wtforms.validators import InputRequired, Length, ValidationError

from portal.forms.base import Form, stripped
from portal.forms.new_password import NewPasswordForm
from portal.rules import email_addresses


def mailable(_form: Form, field: EmailField) -> None:
    """A validator: an address that mail could be sent to."""
    if problem := email_addresses.find_problem(field.data):
        raise ValidationError(problem)


class LoginForm(Form):
    """Address and password."""

    email = EmailField("Email", validators=[InputRequired("Enter your email address."), Length(max=254)])
    password = PasswordField("Password", validators=[InputRequired("Enter your password."), Length(max=1024)])
    next = HiddenField()


class AskForMailForm(Form):
    """The address that a link is mailed to."""

    email = EmailField("Email", filters=[stripped], validators=[InputRequired("Enter your email address."), mailable])


class SignupForm(NewPasswordForm):
    """What an account needs besides the address."""

    name = StringField(
        "Your name", filters=[stripped], validators=[InputRequired("Tell us your name."), Length(max=100)]
    )
