"""Services, helpers and rows that tests share. Used by fixtures and tests."""
