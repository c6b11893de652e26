"""Forms of sign-up, login and password reset. Used by the pages for signed-out visitors."""

from __future__ import annotations

from wtforms import EmailField, HiddenField, PasswordField
from wtforms.validators import InputRequired, Length, ValidationError

from portal.forms.base import Form, name_field, strip_whitespace
from portal.forms.new_password import NewPasswordForm
from portal.rules import email_addresses


def validate_email(_form: Form, field: EmailField) -> None:
    """Check that mail can be sent to the email. A WTForms validator.

    Raises:
        ValidationError: the email is not valid.
    """
    if problem := email_addresses.find_problem(field.data):
        raise ValidationError(problem)


class LoginForm(Form):
    """Email and password, and the page to open after sign-in."""

    email = EmailField("Email", validators=[InputRequired("Enter your email."), Length(max=254)])
    password = PasswordField("Password", validators=[InputRequired("Enter your password."), Length(max=1024)])
    next = HiddenField()


class EmailForm(Form):
    """The email that a link is sent to."""

    email = EmailField(
        "Email", filters=[strip_whitespace], validators=[InputRequired("Enter your email."), validate_email]
    )


class SignupForm(NewPasswordForm):
    """The name and password of a new account, whose email is already confirmed."""

    name = name_field("Your name", "Enter your name.")
