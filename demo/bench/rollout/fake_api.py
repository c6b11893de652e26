"""The part of the Docker API that updates, probes and the collector use. Used by `fake_engine`.

A call that is missing here is answered with 501, so that the job which needs it fails.
"""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit

from demo.bench.rollout.fake_containers import Containers, Refused
from demo.bench.rollout.fake_descriptions import IMAGE_CONFIG, IMAGE_ID
from demo.bench.rollout.fake_http import Answer

_VERSION = {"ApiVersion": "1.51", "MinAPIVersion": "1.24", "Version": "28.3.0", "Os": "linux", "Arch": "amd64"}
_IDS = re.compile(r"(?<=/)(container-\d+|[0-9a-f]{64}|flotilla-[\w-]+|bot-\d+)(?=/|$)")
_PULL_MESSAGES = ("Pulling from acme/bot", "Pull complete", "Digest: sha256:0", "Status: Downloaded newer image")


class FakeEngine:
    """One engine: its containers and the calls that it has counted.

    Args:
        answering: the ids of the containers that answer health checks, by the paths of the health checks.

    Attributes:
        calls: number of calls by method and path, without ids.
    """

    def __init__(self, answering: dict[str, str]) -> None:
        self.containers = Containers(answering)
        self.calls: Counter[str] = Counter()

    def answer(self, method: str, target: str, body: bytes) -> Answer:
        """Answer one call of the API."""
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        path = re.sub(r"^/v\d+\.\d+", "", unquote(url.path))
        self.calls[_describe_call(method, path)] += 1
        try:
            call = [method, *path.strip("/").split("/")]
            route = self._route_container if "containers" in call[1:2] else self._route_other
            return route(call, query, body)
        except Refused as error:
            return Answer.of_json({"message": str(error)}, error.status)

    def _route_container(self, call: list[str], query: dict[str, str], body: bytes) -> Answer:
        match call:
            case ["GET", _, "json"]:
                return Answer.of_json(self.containers.select(json.loads(query.get("filters", "{}"))))
            case ["POST", _, "create"]:
                created = self.containers.create(query["name"], json.loads(body))
                return Answer.of_json({"Id": created.id, "Warnings": []}, HTTPStatus.CREATED)
            case ["GET", _, key, "json"]:
                return Answer.of_json(self.containers.find(key).description)
            case ["GET", _, key, "logs"]:
                lines = self.containers.find(key).lines if query.get("stdout") != "0" else []
                return Answer(HTTPStatus.OK, b"".join(map(_frame, lines)))
            case ["POST", _, key, action]:
                return self._act(key, action, query, body)
            case ["DELETE", _, key]:
                self.containers.remove(self.containers.find(key), force=query.get("force") == "True")
        return Answer(HTTPStatus.NO_CONTENT)

    def _act(self, key: str, action: str, query: dict[str, str], body: bytes) -> Answer:
        container = self.containers.find(key)
        actions: dict[str, Callable[[], object]] = {
            "start": lambda: self.containers.start(container),
            "kill": lambda: self.containers.signal(container, query["signal"]),
            "rename": lambda: self.containers.rename(container, query["name"]),
            "update": lambda: container.description["HostConfig"].update(json.loads(body)),
        }
        actions[action]()
        return Answer.of_json({"Warnings": []}) if action == "update" else Answer(HTTPStatus.NO_CONTENT)

    @staticmethod
    def _route_other(call: list[str], _query: dict[str, str], _body: bytes) -> Answer:
        match call:
            case ["GET", "version"]:
                return Answer.of_json(_VERSION)
            case ["GET", "volumes", name]:
                return Answer.of_json({"Name": name, "Driver": "local", "Mountpoint": f"/volumes/{name}"})
            case ["POST", "images", "create"]:
                messages = (json.dumps({"status": status}) for status in _PULL_MESSAGES)
                return Answer(HTTPStatus.OK, "\r\n".join(messages).encode(), chunked=True)
            case ["GET", "images", *name, "json"]:
                image = {"Id": IMAGE_ID, "RepoTags": [], "RepoDigests": ["/".join(name)], "Config": IMAGE_CONFIG}
                return Answer.of_json(image)
            case ["POST", "images", *_, "tag"] | ["DELETE", "images", *_]:
                return Answer.of_json([])
        raise Refused(HTTPStatus.NOT_IMPLEMENTED, f"the benchmark's engine does not know this call: {call}")


def _describe_call(method: str, path: str) -> str:
    if path.startswith("/images/") and path != "/images/create":
        return f"{method} /images/NAME{'/' + path.rpartition('/')[2] if method != 'DELETE' else ''}"
    return f"{method} {_IDS.sub('ID', re.sub('^/volumes/.*', '/volumes/NAME', path))}"


def _frame(line: str) -> bytes:
    """Return a line of a log as the engine sends it: the stream and the length come first."""
    data = f"{line}\n".encode()
    return struct.pack(">BxxxL", 1, len(data)) + data
