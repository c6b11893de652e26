"""Alerts: messages about events for chats and webhooks, and their delivery."""
