"""Framework glue around requests: headers, CSRF, htmx, errors, templates, session cookie, unit of work."""
