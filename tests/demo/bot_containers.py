"""Containers of the reference bot: start, call, stop. Used by the tests of the reference bot."""

import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

import docker

from demo.versions import BotVersion
from tests.demo.reference_bot.local_bots import BotClient
from tests.support.images import ReferenceImages


class RunningBot:
    """A container of the reference bot."""

    def __init__(self, engine: docker.APIClient, container: str) -> None:
        """Use the container with this id."""
        self._engine = engine
        self._container = container

    def call(
        self, path: str, *, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Send a request once the bot has migrated its data, and return status and body."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port()}{path}",
            data=None if form is None else urllib.parse.urlencode(form).encode(),
            headers=dict(headers or {}),
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    status, text = error.code, error.read().decode()
                if '"migrating"' not in text:
                    return status, text
            except OSError:
                assert self._state()["Running"], self.read_logs()
            assert time.monotonic() < deadline, self.read_logs()
            time.sleep(0.1)

    @property
    def client(self) -> BotClient:
        """A client that does not wait until the bot has started."""
        return BotClient(int(self._port()))

    def wait_for_exit_code(self) -> int:
        """Wait until the container ends, and return its exit code."""
        code: int = self._engine.wait(self._container, timeout=30)["StatusCode"]
        return code

    def read_logs(self) -> str:
        """Return the output of the bot."""
        return self._engine.logs(self._container).decode()

    def stop(self) -> int:
        """Stop the bot and return its exit code; 137 means that it was killed."""
        self._engine.stop(self._container, timeout=20)
        code: int = self._state()["ExitCode"]
        return code

    def remove(self) -> None:
        """Remove the container and keep its named volumes."""
        self._engine.remove_container(self._container, force=True, v=True)

    def _state(self) -> dict[str, Any]:
        return dict(self._engine.inspect_container(self._container)["State"])

    def _port(self) -> str:
        ports = self._engine.inspect_container(self._container)["NetworkSettings"]["Ports"]
        return str(ports["3100/tcp"][0]["HostPort"])


class BotRunner:
    """Starts releases of the bot on the same two volumes."""

    def __init__(self, engine: docker.APIClient, images: ReferenceImages, volumes: tuple[str, str]) -> None:
        """Mount the first of `volumes` at `/data` and the second at `/paperclip`."""
        self._engine = engine
        self._images = images
        self._binds = [f"{volumes[0]}:/data", f"{volumes[1]}:/paperclip"]
        self._started: list[RunningBot] = []

    def start(self, version: BotVersion, **environment: str) -> RunningBot:
        """Start a release."""
        container = self._engine.create_container(
            self._images.reference(version),
            environment=environment,
            ports=[3100],
            host_config=self._engine.create_host_config(binds=self._binds, port_bindings={3100: ("127.0.0.1", None)}),
        )
        bot = RunningBot(self._engine, container["Id"])
        self._started.append(bot)
        self._engine.start(container)
        return bot

    def remove_all(self) -> None:
        """Remove all containers that were started."""
        for bot in self._started:
            bot.remove()
