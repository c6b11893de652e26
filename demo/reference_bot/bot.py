"""The parts of a running bot: release, configuration, data, provision protocol. Used by the HTTP server."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from .activity import Activity
from .assertion import AssertionVerifier
from .behaviour import Behaviour, ReleaseInfo
from .configuration import Configuration
from .corruption import corrupt_volumes
from .database import BASE_SCHEMA, LATEST_SCHEMA, Database
from .key_set import KeySet
from .notes import Notes
from .provision_api import ProvisionApi


class Bot:
    """A bot on its two volumes.

    Attributes:
        release: the release that runs.
        configuration: the environment's settings.
        database: the database in the first volume.
        notes: the notes of all members.
        provision: the answers to the platform.
        verifier: checks signed assertions of identity; None if the bot trusts its network.
        activity: the requests that are being answered.
        migrated: set when the data is ready for requests.
    """

    def __init__(self, release: ReleaseInfo, configuration: Configuration, data: Path, files: Path) -> None:
        """Use the volume `data` for the database and the volume `files` for one file per note."""
        self.release = release
        self.configuration = configuration
        self.database = Database(data / "bot.db")
        self.notes = Notes(self.database, files / "notes")
        self.provision = ProvisionApi(self.database, configuration)
        self.verifier = _make_verifier(configuration)
        self.activity = Activity()
        self.migrated = threading.Event()
        self._volumes = (data, files)

    def migrate(self) -> None:
        """Prepare the data in the volumes, as the behaviour of the release demands.

        Raises:
            sqlite3.Error: the data is damaged.
        """
        data, files = self._volumes
        time.sleep(self.release.migration_seconds)
        if self.release.behaviour in {Behaviour.CORRUPTING, Behaviour.CORRUPTING_AND_CRASHING}:
            corrupt_volumes(data, files)
        else:
            (files / "notes").mkdir(exist_ok=True)
            migrating = self.release.behaviour is Behaviour.MIGRATING
            self.database.migrate(LATEST_SCHEMA if migrating else BASE_SCHEMA)
        self.migrated.set()


def _make_verifier(configuration: Configuration) -> AssertionVerifier | None:
    if not configuration.assertion_keys_url:
        return None
    return AssertionVerifier(KeySet(configuration.assertion_keys_url), configuration.bot_id)
