"""Services on releases: polling, changelogs, quarantine, offers."""
