"""Replacement containers on a real engine keep every setting made by hand."""

import json
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError, NotFound

from daemon.engine.recreate.capture import capture
from daemon.engine.recreate.compare import unexplained_differences
from daemon.engine.recreate.creation import Plan, create, plan_original, plan_replacement
from daemon.engine.recreate.mounts import writable_volumes
from tests.daemon.engine.recreate.containers import Containers
from tests.daemon.engine.recreate.full_container import MAC, RUN_FOREVER, Resources

pytestmark = pytest.mark.docker

Image = dict[str, Any]


def test_every_setting_made_by_hand_is_kept(
    engine: docker.APIClient, containers: Containers, resources: Resources, old_image: Image, new_image: Image
) -> None:
    """Only the defaults of the two images differ, before and after the start of the replacement."""
    old = containers.add_full_container(old_image["Id"], resources)
    saved = json.loads(json.dumps(capture(engine, old)))
    new = containers.create(plan_replacement(saved, new_image["Id"], {"flotilla.bot": "b1"}))
    assert unexplained_differences(saved, containers.inspect(new), new_image) == []

    engine.stop(old, timeout=0)
    engine.start(new)
    running = containers.inspect(new)

    assert unexplained_differences(saved, running, new_image) == []
    assert running["State"]["Running"]
    assert_as_set_by_hand(running, saved["container"], resources)
    assert running["Config"]["Labels"]["flotilla.bot"] == "b1"


def assert_as_set_by_hand(new: dict[str, Any], old: dict[str, Any], resources: Resources) -> None:
    """Check the settings directly, without the comparison under test."""
    config = new["Config"]
    environment = set(config["Env"])
    assert {"OVERRIDDEN=operator", "ADDED=a=b", "EMPTY=", "GONE", "FROM_IMAGE=new", "FRESH=new"} <= environment
    assert not {"FROM_IMAGE=old", "GONE=old"} & environment
    labels = config["Labels"]
    assert labels["overridden"] == "operator"
    assert (labels["added"], labels["from.image"], labels["fresh"]) == ("yes", "new", "new")
    assert "gone" not in labels
    assert set(config["ExposedPorts"]) == {"3100/tcp", "3102/tcp", "4000/udp", "5000/tcp"}
    assert set(config["Volumes"]) == {"/anonymous", "/declared", "/declared-new"}
    assert config["Healthcheck"] == {
        "Test": ["CMD", "true"],
        "Interval": 30_000_000_000,
        "Timeout": 8_000_000_000,
        "Retries": 5,
    }
    by_hand = ("Hostname", "Domainname", "User", "WorkingDir", "Entrypoint", "Cmd", "StopSignal", "StopTimeout")
    assert {key: config[key] for key in by_hand} == {key: old["Config"][key] for key in by_hand}
    compared_separately = {"Binds", "Mounts", "RestartPolicy"}
    assert {k: v for k, v in new["HostConfig"].items() if k not in compared_separately} == {
        k: v for k, v in old["HostConfig"].items() if k not in compared_separately
    }
    before, now = ({m["Destination"]: m for m in inspect["Mounts"]} for inspect in (old, new))
    assert now.keys() - before.keys() == {"/declared-new"}
    for path, mount in before.items():
        assert (now[path].get("Name"), now[path]["RW"]) == (mount.get("Name"), mount["RW"])
    networks = new["NetworkSettings"]["Networks"]
    assert networks[resources.primary]["IPAddress"] == resources.address
    assert networks[resources.primary]["MacAddress"] == MAC
    assert "first" in networks[resources.primary]["Aliases"]
    assert "second" in networks[resources.secondary]["Aliases"]
    assert old["Id"][:12] not in networks[resources.primary]["Aliases"]
    ports = new["NetworkSettings"]["Ports"]
    assert ports["3100/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": str(resources.port)}]
    assert ports["4000/udp"]


def test_repeated_replacement_loses_nothing(
    containers: Containers, resources: Resources, old_image: Image, new_image: Image
) -> None:
    """A second replacement on the first image equals the first container.

    Only the volume that the image in between declared is kept, because it may contain data.
    """
    first, replacement = containers.replace(
        containers.add_full_container(old_image["Id"], resources), new_image["Id"]
    )
    _, again = containers.replace(replacement["Id"], old_image["Id"])

    assert unexplained_differences(first, again, old_image) == ["Mount /declared-new"]


def test_removed_container_is_created_again_from_its_capture(
    engine: docker.APIClient, containers: Containers, resources: Resources, old_image: Image
) -> None:
    old = containers.add_full_container(old_image["Id"], resources)
    saved = capture(engine, old)
    engine.remove_container(old, force=True)

    original = containers.create(plan_original(saved, old_image["Id"]))
    engine.start(original)

    assert unexplained_differences(saved, containers.inspect(original), old_image) == []


def test_replacement_has_no_restart_policy_before_its_commit(
    containers: Containers, resources: Resources, old_image: Image, new_image: Image
) -> None:
    saved, new = containers.replace(containers.add_full_container(old_image["Id"], resources), new_image["Id"])

    assert saved["container"]["HostConfig"]["RestartPolicy"]["Name"] == "on-failure"
    assert new["HostConfig"]["RestartPolicy"]["Name"] == "no"


def test_creating_a_replacement_leaves_empty_volumes_empty(
    engine: docker.APIClient, containers: Containers, resources: Resources, snapshot_image: str
) -> None:
    """Without `nocopy` an engine copies files of the image into an empty volume at creation."""
    filled = {"Image": snapshot_image, "Cmd": ["true"]}
    old = containers.add(
        filled
        | {
            "Volumes": {"/bin": {}},
            "HostConfig": {
                "Binds": [f"{resources.volume_in_binds}:/etc"],
                "Mounts": [{"Type": "volume", "Source": resources.volume_in_mounts, "Target": "/lib"}],
            },
        }
    )
    volumes = [Path(mount["Source"]) for mount in containers.inspect(old)["Mounts"]]
    for volume in volumes:
        empty(volume)

    containers.replace(old, snapshot_image)

    assert len(volumes) == 3
    assert [list(volume.iterdir()) for volume in volumes] == [[], [], []]


def empty(volume: Path) -> None:
    """Remove the files that the engine copied into a fresh volume."""
    for path in sorted(volume.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


def test_removing_a_replacement_keeps_the_volumes_of_the_old_container(
    engine: docker.APIClient, containers: Containers, resources: Resources, old_image: Image, new_image: Image
) -> None:
    saved, new = containers.replace(containers.add_full_container(old_image["Id"], resources), new_image["Id"])
    fresh = {m["Destination"]: m["Name"] for m in new["Mounts"] if m["Type"] == "volume"}["/declared-new"]

    engine.remove_container(new["Id"], v=True, force=True)

    with pytest.raises(NotFound):
        engine.inspect_volume(fresh)
    for volume in writable_volumes(saved["container"]):
        assert engine.inspect_volume(volume.name)["Name"] == volume.name


def test_replacement_that_cannot_join_its_networks_is_removed(
    engine: docker.APIClient, resources: Resources, old_image: Image
) -> None:
    impossible = {"IPAMConfig": {"IPv4Address": "10.0.0.1"}}  # the network has no configured subnet
    plan = Plan(
        {"Image": old_image["Id"], "HostConfig": {"NetworkMode": resources.primary}},
        [(resources.secondary, impossible)],
    )

    with pytest.raises(APIError, match="subnets"):
        create(engine, plan, "flotilla-test-incomplete")

    with pytest.raises(NotFound):
        engine.inspect_container("flotilla-test-incomplete")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param((None, None), (["nice"], ["new"]), id="both-from-the-image"),
        pytest.param((None, ["mine"]), (["nice"], ["mine"]), id="command-set"),
        pytest.param((["sh"], None), (["sh"], None), id="entrypoint-set-drops-the-command"),
        pytest.param((["env"], None), (["env"], None), id="entrypoint-as-in-the-image-drops-the-command-too"),
        pytest.param((["sh"], ["old"]), (["sh"], ["old"]), id="command-as-in-the-image-beside-a-set-entrypoint"),
        pytest.param(([""], ["mine"]), (None, ["mine"]), id="entrypoint-taken-away"),
        pytest.param(([], None), (None, ["old"]), id="entrypoint-emptied"),
    ],
)
def test_entrypoint_and_command_are_inherited_together(
    containers: Containers,
    old_image: Image,
    new_image: Image,
    settings: tuple[list[str] | None, list[str] | None],
    expected: tuple[list[str] | None, list[str] | None],
) -> None:
    """The command of the image is used only with the entrypoint of the image."""
    old = containers.add({"Image": old_image["Id"], "Entrypoint": settings[0], "Cmd": settings[1]})

    saved, new = containers.replace(old, new_image["Id"])

    assert (new["Config"]["Entrypoint"], new["Config"]["Cmd"]) == expected
    assert unexplained_differences(saved, new, new_image) == []


@pytest.mark.parametrize(
    "host_config",
    [
        pytest.param({"NetworkMode": "host"}, id="network-of-the-node"),
        pytest.param({"NetworkMode": "none"}, id="no-network"),
        pytest.param({"NetworkMode": "host", "UTSMode": "host"}, id="network-and-host-name-of-the-node"),
        pytest.param({"UTSMode": "host"}, id="host-name-of-the-node"),
        pytest.param({"PidMode": "host", "UsernsMode": "host", "CgroupnsMode": "private"}, id="namespaces"),
        pytest.param({"Privileged": True}, id="privileged"),
        pytest.param({"PublishAllPorts": True}, id="all-ports"),
        pytest.param({"MaskedPaths": [], "ReadonlyPaths": []}, id="system-paths-unconfined"),
        pytest.param(
            {"DeviceRequests": [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]},
            id="graphics-processors",
        ),
        pytest.param({"CpuPeriod": 100_000, "CpuQuota": 50_000, "MemorySwap": -1, "Memory": 8 << 20}, id="quotas"),
        pytest.param({"PortBindings": {"6000/tcp": [{"HostPort": "6000"}]}}, id="port-no-image-exposes"),
    ],
)
def test_rare_settings_are_kept(
    containers: Containers, old_image: Image, new_image: Image, host_config: dict[str, Any]
) -> None:
    """These settings exclude others, or cannot be started on every machine."""
    old = containers.add({"Image": old_image["Id"], "HostConfig": host_config})

    saved, new = containers.replace(old, new_image["Id"])

    assert unexplained_differences(saved, new, new_image) == []
    for key in host_config:
        assert new["HostConfig"][key] == saved["container"]["HostConfig"][key]


def test_generated_host_name_is_not_kept(containers: Containers, old_image: Image, new_image: Image) -> None:
    saved, new = containers.replace(containers.add({"Image": old_image["Id"]}), new_image["Id"])

    assert new["Config"]["Hostname"] == new["Id"][:12]
    assert unexplained_differences(saved, new, new_image) == []


def test_network_of_another_container_is_shared_by_name(
    engine: docker.APIClient, containers: Containers, old_image: Image, new_image: Image
) -> None:
    """The id of the other container changes when that container is recreated."""
    endless = {"Image": old_image["Id"], "Entrypoint": RUN_FOREVER}
    other = containers.add(endless)
    name = containers.inspect(other)["Name"]
    old = containers.add(endless | {"HostConfig": {"NetworkMode": f"container:{other}"}})
    for container in (other, old):
        engine.start(container)

    saved, new = containers.replace(old, new_image["Id"])
    assert unexplained_differences(saved, new, new_image) == []

    engine.remove_container(other, v=True, force=True)
    recreated = create(engine, Plan({"Image": old_image["Id"]}, []), name)
    try:
        plan = plan_replacement(saved, new_image["Id"], {})
        assert containers.inspect(containers.create(plan))["HostConfig"]["NetworkMode"] == f"container:{recreated}"
    finally:
        engine.remove_container(recreated, v=True)


def test_links_and_volumes_of_another_container_are_kept(
    engine: docker.APIClient, containers: Containers, resources: Resources, old_image: Image, new_image: Image
) -> None:
    binds = {"Binds": [f"{resources.volume_in_binds}:/theirs"]}
    other = containers.add({"Image": old_image["Id"], "Entrypoint": RUN_FOREVER, "HostConfig": binds})
    engine.start(other)
    old = containers.add(
        {"Image": old_image["Id"], "HostConfig": {"Links": [f"{other}:db"], "VolumesFrom": [f"{other}:ro"]}}
    )

    saved, new = containers.replace(old, new_image["Id"])

    assert unexplained_differences(saved, new, new_image) == []
    assert new["HostConfig"]["Links"][0].endswith("/db")
    assert {m["Destination"]: m["Name"] for m in new["Mounts"]}["/theirs"] == resources.volume_in_binds


def test_default_network_keeps_a_mac_address(containers: Containers, old_image: Image, new_image: Image) -> None:
    saved, new = containers.replace(containers.add({"Image": old_image["Id"], "MacAddress": MAC}), new_image["Id"])

    assert new["Config"]["MacAddress"] == MAC
    assert unexplained_differences(saved, new, new_image) == []


def test_network_named_by_id_is_kept(
    engine: docker.APIClient, containers: Containers, resources: Resources, old_image: Image, new_image: Image
) -> None:
    by_id = engine.inspect_network(resources.primary)["Id"]
    old = containers.add({"Image": old_image["Id"], "Entrypoint": RUN_FOREVER, "HostConfig": {"NetworkMode": by_id}})
    engine.start(old)

    saved, new = containers.replace(old, new_image["Id"])

    assert list(new["NetworkSettings"]["Networks"]) == [resources.primary]
    assert unexplained_differences(saved, new, new_image) == []


@pytest.mark.parametrize("rest", [True, False], ids=["another-network-remains", "none-remains"])
def test_network_that_the_container_has_left_is_not_joined_again(
    engine: docker.APIClient,
    containers: Containers,
    resources: Resources,
    old_image: Image,
    new_image: Image,
    *,
    rest: bool,
) -> None:
    """The network mode still names the network with which the container was created."""
    old = containers.add({"Image": old_image["Id"], "HostConfig": {"NetworkMode": resources.primary}})
    if rest:
        engine.connect_container_to_network(old, resources.secondary)
    engine.disconnect_container_from_network(old, resources.primary)

    saved, new = containers.replace(old, new_image["Id"])

    assert resources.primary not in new["NetworkSettings"]["Networks"]
    assert (resources.secondary in new["NetworkSettings"]["Networks"]) is rest
    assert unexplained_differences(saved, new, new_image) == []
