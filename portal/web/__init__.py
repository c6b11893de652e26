"""Request handling around the views: headers, CSRF, htmx, errors, templates, session cookie, unit of work."""
