"""What views share: authorization, limits, mailed links, configuration."""
