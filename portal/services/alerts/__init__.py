"""Services on alerts: channels, the messages that wait for them, and delivery attempts."""
