"""The web application and the models, rules and services that it shares with the daemon."""
