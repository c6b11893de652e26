"""Compression of responses, by what the browser accepts. Used by `create_app`.

The length of a compressed page tells how much one part of it repeats another. A site that makes a browser request
pages with guesses in their address, and sees the lengths, could find a secret of the page in this way, such as the
CSRF token (the attack BREACH). Pages are therefore compressed only if the portal itself or the user has caused the
request, which browsers tell in a header that scripts cannot set. Bots on sibling hosts count as other sites.
"""

from __future__ import annotations

from flask import Flask, Response, request
from flask_compress import Compress

from portal.web.security import PUBLIC_FILES

_TRUSTED_SITES = frozenset({"same-origin", "none"})
"""Values of `Sec-Fetch-Site`. `none`: the user typed the address or used a bookmark."""


def init_app(app: Flask) -> None:
    """Compress responses. Call this first, so that it runs after everything else that changes a response."""
    app.config.update(COMPRESS_REGISTER=False, COMPRESS_ALGORITHM=["zstd", "br", "gzip"])
    compressor = Compress()
    compressor.init_app(app)

    @app.after_request
    def _compress(response: Response) -> Response:
        if not _may_compress(response):
            return response
        # The library does not close the files of responses that it compresses while they are sent.
        response.direct_passthrough = False
        response.make_sequence()
        return compressor.after_request(response)


def _may_compress(response: Response) -> bool:
    # The ranges of a partial response (206) count the bytes of the file, not those of its compressed form.
    if response.status_code != 200:
        return False
    return request.endpoint in PUBLIC_FILES or request.headers.get("Sec-Fetch-Site") in _TRUSTED_SITES
