"""Verbs on the domain: they flush, never commit, and raise typed errors. Each module is one subject."""
