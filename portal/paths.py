"""Folders of the project. Used to find templates, static files and migrations."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The project's folder, which holds templates, static files and migrations."""
