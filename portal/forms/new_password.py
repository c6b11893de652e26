"""Forms in which a new password is chosen."""

from __future__ import annotations

from wtforms import PasswordField
from wtforms.validators import InputRequired

from portal.forms.base import Form
from portal.rules import password_policy


class NewPasswordForm(Form):
    """A new password; other forms add what they need."""

    password = PasswordField("New password", validators=[InputRequired("Choose a password.")])

    def accepts(self, *names: str) -> bool:
        """Validate the form, the password against the rules.

        Args:
            names: what the password must not be made of: the product's name, the person's own name and address.
        """
        if not self.validate():
            return False
        if problem := password_policy.find_problem(self.password.data, names=names):
            self.password.errors = [problem]
            return False
        return True
