"""Services on accounts: sign-up, passwords, sessions, mailed links, operators."""
