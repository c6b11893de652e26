"""The demo platform, the reference bot and its images, and the benchmarks. Used by `make` and by the tests."""
