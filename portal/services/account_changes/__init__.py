"""Services that change or delete an account together with its memberships and its bots' member lists."""
