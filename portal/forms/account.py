"""Forms of the account page. Used by the pages of the user's own account."""

from __future__ import annotations

from wtforms import EmailField, PasswordField, StringField
from wtforms.validators import InputRequired, Length

from portal.forms.auth import validate_email
from portal.forms.base import Form, name_field, strip_whitespace
from portal.forms.new_password import NewPasswordForm


def _current_password() -> PasswordField:
    return PasswordField("Current password", validators=[InputRequired("Enter your password."), Length(max=1024)])


class NameForm(Form):
    """The user's name."""

    name = name_field("Name", "Enter your name.")


class ChangeEmailForm(Form):
    """The new email and the current password."""

    email = EmailField(
        "New email", filters=[strip_whitespace], validators=[InputRequired("Enter an email."), validate_email]
    )
    current_password = _current_password()


class ChangePasswordForm(NewPasswordForm):
    """The new and the current password."""

    current_password = _current_password()


class ConfirmForm(Form):
    """The user's own password, which confirms a sensitive action on another account."""

    current_password = _current_password()


class DeleteAccountForm(Form):
    """The user's own email and password, which prevent an accidental deletion or one by another person."""

    email = StringField("Your email", filters=[strip_whitespace], validators=[InputRequired("Type your email.")])
    current_password = _current_password()
