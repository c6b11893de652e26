"""Helpers that views share: authorization, rate limits, mailed links, reauthentication, settings."""
