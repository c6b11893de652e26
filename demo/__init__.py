"""The demo: a whole platform on one machine, and the reference images that tests use too."""
