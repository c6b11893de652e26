"""Services that read the event log and describe events in sentences. Used by the audit pages."""
