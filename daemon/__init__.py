"""The background processes: scheduler, workers, updates, rollouts, registries, email, and the `flotilla` command."""
