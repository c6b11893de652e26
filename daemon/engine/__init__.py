"""Access to Docker engines: client, containers, labels, health probe, faithful recreation."""
