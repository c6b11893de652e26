"""The response of a bot on its way to the browser, part by part. Used by forwarding and by tunnels."""

from __future__ import annotations

from http import HTTPStatus

from portal.gateway.http.heads import build_response_head
from portal.gateway.http.own_responses import Sent, drain_in_time
from portal.gateway.http.requests import BrowserRequest
from portal.rules.proxy_headers import Headers

_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT.value, HTTPStatus.NOT_MODIFIED.value})


class ResponseStream:
    """Sends a response to a browser. Its head is sent with the first part of its body.

    Args:
        browser: the request.
        status: the status.
        headers: all headers except those of the framing.
        length: length of the body in bytes; None if it is not known.
    """

    def __init__(self, browser: BrowserRequest, status: int, headers: Headers, length: int | None) -> None:
        self._browser, self._connection = browser, browser.connection
        self._is_chunked = False
        self._sent = Sent(status, 0)
        self._head = self._build_head(browser, status, headers, length)

    async def write(self, data: bytes) -> None:
        """Send a part of the body, or the head alone, and wait while the browser accepts no more.

        Raises:
            ConnectionResetError: the browser does not receive it.
        """
        self._sent.size += len(data)
        if data and self._is_chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        head, self._head = self._head, b""
        self._browser.is_answered = True
        self._connection.write(head + data)
        await drain_in_time(self._connection)

    async def end(self) -> Sent:
        """End the body, and return what was sent.

        Raises:
            ConnectionResetError: the browser does not receive it.
        """
        rest = b"0\r\n\r\n" if self._is_chunked else b""
        if self._head or rest:
            self._connection.write(self._head + rest)
            await drain_in_time(self._connection)
        return self._sent

    def _build_head(self, browser: BrowserRequest, status: int, headers: Headers, length: int | None) -> bytes:
        connection, is_http_10 = self._connection, browser.version == "1.0"
        headers = list(headers)
        if status not in _WITHOUT_BODY and length is not None:
            headers.append(("Content-Length", str(length)))
        elif status not in _WITHOUT_BODY and browser.method != "HEAD":
            if is_http_10:
                connection.must_close = True
            else:
                self._is_chunked = True
                headers.append(("Transfer-Encoding", "chunked"))
        if connection.must_close is not is_http_10:
            headers.append(("Connection", "close" if connection.must_close else "keep-alive"))
        return build_response_head(status, headers)
