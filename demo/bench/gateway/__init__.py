"""Benchmarks of the gateway: speed compared with nginx, and updates under load. Used by `demo.bench.__main__`."""
