"""Pure rules without any I/O, used by portal and daemon alike."""
