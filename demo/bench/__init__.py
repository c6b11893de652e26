"""Benchmarks: downtime of updates, speed of snapshots, cost of a large fleet. Used by `make bench`."""
