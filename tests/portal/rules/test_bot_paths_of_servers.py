"""Real servers: a path that the gateway forwards is never `/internal` for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portal.rules.bot_paths import PathVerdict, check_target
from tests.support.missing import required_service
from tests.support.path_servers import (
    MARKS,
    SEPARATORS,
    SPELLINGS,
    PathClient,
    express_app,
    flask_app,
    list_targets,
    node_app,
    reference_bot,
)

pytestmark = pytest.mark.slow

Server = Callable[[Path], AbstractContextManager[int]]

PIECES = st.lists(st.sampled_from([*SEPARATORS, *MARKS]) | st.text("/%.;?25efIintral", max_size=2), max_size=3)
TARGETS = st.tuples(PIECES, st.sampled_from(SPELLINGS), PIECES).map(
    lambda parts: "".join(("/", *parts[0], parts[1], *parts[2]))
)


@pytest.fixture(scope="module", params=[reference_bot, flask_app, express_app, node_app])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PathClient]:
    """Run a server. Return a client of it."""
    server: Server = request.param
    with (
        required_service(server(tmp_path_factory.mktemp("server"))) as port,
        closing(PathClient(port)) as client,
    ):
        yield client


def is_forwarded(target: str) -> bool:
    """Return whether the gateway forwards a target."""
    return check_target(target) is PathVerdict.FORWARD


def test_the_server_has_internal_addresses(client: PathClient) -> None:
    routed = [target for target in ("/internal/a", "/internal/?x", "/a", "/") if client.is_routed_to_internal(target)]
    assert routed == ["/internal/a", "/internal/?x"]


def test_what_the_gateway_forwards_is_not_routed_to_internal(client: PathClient) -> None:
    forwarded = list(filter(is_forwarded, list_targets()))
    assert len(forwarded) > 1000
    assert [target for target in forwarded if client.is_routed_to_internal(target)] == []


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(target=TARGETS.filter(is_forwarded))
def test_no_generated_path_is_routed_to_internal(client: PathClient, target: str) -> None:
    assert not client.is_routed_to_internal(target)
