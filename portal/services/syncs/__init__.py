"""The sync of companies and members into bots: what is due, what was observed, and what operators can do about it.

`portal.services.orgs.member_sync` writes the desired roles, and `daemon.provision` makes the calls.
"""
