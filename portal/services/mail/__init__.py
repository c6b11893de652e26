"""Services on the mail outbox: queueing and delivery attempts."""
