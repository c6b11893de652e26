"""Services that change or delete an account and its memberships. Used by the pages of the user's own account."""
