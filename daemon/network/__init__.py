"""Connections to other machines: deadlines, HTTP connections that obey them, and networks of addresses."""
