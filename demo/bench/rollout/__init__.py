"""A whole rollout, or an idle platform, with Flotilla's own processes and engines that only pretend."""
