"""Sending of the outbox: composing, rendering and delivering emails. Used by the job `send_mail`."""
