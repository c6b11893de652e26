"""Services for accounts: users, passwords, sessions, mailed one-time links, operators."""
