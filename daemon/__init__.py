"""What runs in the background: scheduler, workers, registries, rollouts, updates, and the `flotilla` command."""
