"""Base class of forms that set a password. Used by the forms of sign-up, password reset and password change."""

from __future__ import annotations

from wtforms import PasswordField
from wtforms.validators import InputRequired

from portal.forms.base import Form
from portal.rules import password_policy


class NewPasswordForm(Form):
    """A new password. Subclasses add further fields."""

    password = PasswordField(
        "New password",
        description=f"At least {password_policy.MIN_LENGTH} characters. Three or four unrelated words work well.",
        validators=[InputRequired("Choose a password.")],
    )

    def validate_with_policy(self, *names: str) -> bool:
        """Validate the form, and the new password against the password policy.

        Args:
            names: words that the password must not consist of: the product's name, the user's name and email.
        """
        if not self.validate():
            return False
        if problem := password_policy.find_problem(self.password.data, names=names):
            self.password.errors = [problem]
            return False
        return True
