"""Talking to image registries: what a tag points at, and what a release says about itself."""
