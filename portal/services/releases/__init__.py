"""Services for releases: polling, changelogs, quarantine, update offers."""
