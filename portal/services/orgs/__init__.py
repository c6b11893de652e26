"""Services on organizations: creation, memberships, invites, transfers, deletion, update preferences."""
