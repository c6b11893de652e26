"""Forms of the account's own page."""

from __future__ import annotations

from wtforms import EmailField, PasswordField, StringField
from wtforms.validators import InputRequired, Length

from portal.forms.auth import mailable
from portal.forms.base import Form, stripped
from portal.forms.new_password import NewPasswordForm


def _own_password() -> PasswordField:
    return PasswordField(
        "Your present password", validators=[InputRequired("Enter your password."), Length(max=1024)]
    )


class NameForm(Form):
    """How one is called."""

    name = StringField("Name", filters=[stripped], validators=[InputRequired("Tell us your name."), Length(max=100)])


class AddressForm(Form):
    """Another address."""

    email = EmailField("New email", filters=[stripped], validators=[InputRequired("Enter an address."), mailable])
    present = _own_password()


class PasswordForm(NewPasswordForm):
    """Another password."""

    present = _own_password()


class DeletionForm(Form):
    """One's own address and password, so that nobody deletes an account by accident or at an open desk."""

    email = StringField("Your email", filters=[stripped], validators=[InputRequired("Type your address.")])
    present = _own_password()
