"""Real servers: a path that the gateway forwards is never `/internal` for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.rules.bot_paths import PathVerdict, check_target
from tests.support.missing import required_service
from tests.support.path_servers import express_app, flask_app, is_routed_to_internal, reference_bot

pytestmark = pytest.mark.slow

Server = Callable[[Path], AbstractContextManager[int]]

WORDS = ["internal", "Internal", "INTERNAL", "%69nternal", "%2569nternal", "intern%c3%a1l", "%EF%BD%89nternal", "a"]
SEPARATORS = ["/", "//", "/./", "/../", "/a/../", "/..;/", "/%2e/", "/%2e%2e/", "/%252e%252e/", "%2f", "%252F", "%5c"]
MARKS = [";", ";a=b", "?", "%3f", "#", "%23", "%00", "%20", "+", ".", "..", "~", "!", "@", ":", ",", "*", "|", "%09"]
PIECES = st.sampled_from(["/", *WORDS, *SEPARATORS, *MARKS]) | st.text("/%.;25efIintral", max_size=3)
TARGETS = st.lists(PIECES, min_size=1, max_size=6).map(lambda pieces: "/" + "".join(pieces))


@pytest.fixture(scope="module", params=[reference_bot, flask_app, express_app])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run a server. Return its port."""
    server: Server = request.param
    with required_service(server(tmp_path_factory.mktemp("server"))) as port:
        yield port


def test_the_server_has_internal_addresses(port: int) -> None:
    routed = [target for target in ("/internal/a", "/internal/?x", "/a", "/") if is_routed_to_internal(port, target)]
    assert routed == ["/internal/a", "/internal/?x"]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(target=TARGETS.filter(lambda target: check_target(target) is PathVerdict.FORWARD))
def test_no_forwarded_path_is_routed_to_internal(port: int, target: str) -> None:
    assert not is_routed_to_internal(port, target)
