"""Docker engines that only pretend, one socket each, and the health checks of their bots. Used by `processes`.

`python -m demo.bench.rollout.fake_engine FOLDER NODES BOTS PORT [SILENT]` serves the sockets `FOLDER/node-N.sock` and
answers health checks on a port. Bot N has the container `container-N` on node `N % NODES`. The first SILENT bots
never answer health checks.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvloop

from demo.bench.rollout.fake_api import FakeEngine
from demo.bench.rollout.fake_http import Answer, HttpProtocol

BOT_PORT = 3100


def health_path(number: int) -> str:
    """Return the path of the health check of a bot."""
    return f"/health/{number}"


def _health_answer(answering: dict[str, str], silent: int) -> Callable[[str, str, bytes], Answer | None]:
    """Return a function that answers the health checks of all bots, except of the silent ones."""
    never = set(map(health_path, range(silent)))
    healthy = Answer.of_json({"status": "ok"})
    starting = Answer.of_json({"status": "starting"}, HTTPStatus.SERVICE_UNAVAILABLE)

    def answer(_method: str, target: str, _body: bytes) -> Answer | None:
        if target in never:
            return None
        return healthy if target in answering else starting

    return answer


def _describe_bot(number: int, port: int) -> dict[str, Any]:
    return {
        "Image": "registry.example/acme/bot:stable",
        "Env": [f"SETTING_{index}=a value of usual length" for index in range(40)],
        "Labels": {"bench.health": health_path(number)},
        "ExposedPorts": {f"{BOT_PORT}/tcp": {}},
        "HostConfig": {
            "Binds": [f"bot-{number}-data:/data", f"bot-{number}-files:/paperclip"],
            "PortBindings": {f"{BOT_PORT}/tcp": [{"HostPort": str(port)}]},
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
        },
    }


async def _serve(folder: Path, nodes: int, bots: int, port: int, silent: int = 0) -> None:
    loop = asyncio.get_running_loop()
    answering: dict[str, str] = {}
    engines = [FakeEngine(answering) for _ in range(nodes)]
    for number in range(bots):
        containers = engines[number % nodes].containers
        bot = containers.create(f"bot-{number}", _describe_bot(number, port), f"container-{number}")
        containers.start(bot, boot_seconds=0)
    answer = _health_answer(answering, silent)
    servers = [await loop.create_server(lambda: HttpProtocol(answer), "127.0.0.1", port, backlog=1000)]
    answers = {f"node-{number}": engine.answer for number, engine in enumerate(engines)}
    answers["calls"] = lambda *_: Answer.of_json(sum((engine.calls for engine in engines), Counter()))
    for name, answer_call in answers.items():
        make = partial(HttpProtocol, answer_call)
        servers.append(await loop.create_unix_server(make, folder / f"{name}.sock", backlog=500))
    # The loop closes servers that nothing refers to.
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]), *map(int, sys.argv[2:])))
