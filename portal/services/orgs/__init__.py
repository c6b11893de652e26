"""Services on organizations: creation, memberships, invites, transfers, deletion, preferences."""
