"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daemon.cli import main
from daemon.commands.upstream import upstream
from daemon.upstream.scan.hosted_mode import CONFIG_NAME, load
from tests.daemon.upstream.repos import World


def run(world: World, *arguments: str) -> Result:
    """Run `flotilla upstream` on the fork."""
    return CliRunner().invoke(upstream, [*arguments, "--repo", str(world.fork.path)], catch_exceptions=False)


def test_exit_code_0_means_done(world: World) -> None:
    world.upstream.commit("feat: dark theme")
    result = run(world, "sync")
    assert result.exit_code == 0
    assert "main moved from" in result.stdout
    assert "Backup branch: flotilla/backup/main-" in result.stdout
    assert "Fetching upstream and origin" in result.stderr
    assert run(world, "scan").exit_code == 0


def test_exit_code_1_means_findings(world: World) -> None:
    world.upstream.commit("feat: form", {"ui/src/Form.tsx": "x\nadapterType\n"})
    result = run(world, "sync")
    assert result.exit_code == 1
    assert "New: ui/src/Form.tsx:2 uses adapterType without a guard" in result.stdout
    assert "Suggestion: {!isHosted && (…)}" in result.stdout
    result = run(world, "scan")
    assert result.exit_code == 1
    assert "Known: ui/src/Form.tsx:2" in result.stdout


def test_exit_code_2_means_refused(world: World) -> None:
    world.fork.write("FORK.md", "changed")
    result = run(world, "sync")
    assert result.exit_code == 2
    assert result.stderr.endswith("uncommitted changes: FORK.md. Commit or stash them first.\n")
    assert json.loads(run(world, "sync", "--json").stdout)["outcome"] == "refused"


def test_exit_code_3_means_conflict(world: World) -> None:
    world.fork.commit("feat: ours", {"README.md": "ours\n"})
    world.upstream.commit("feat: theirs", {"README.md": "theirs\n"})
    result = run(world, "sync")
    assert result.exit_code == 3
    assert "README.md: changed on both sides" in result.stdout
    data = json.loads(run(world, "sync", "--json").stdout)
    assert data["outcome"] == "conflict"
    assert data["conflict"]["files"][0]["path"] == "README.md"
    assert data["conflict"]["commit"]["author"] == "Frida Fork"


def test_json_is_complete_and_alone_on_standard_output(world: World) -> None:
    world.upstream.commit("feat: form", {"ui/src/Form.tsx": "adapterType\n"})
    dry = json.loads(run(world, "sync", "--dry-run", "--json").stdout)
    assert (dry["outcome"], dry["dry_run"]) == ("synced", True)
    assert world.fork.head == dry["old"]
    data = json.loads(run(world, "sync", "--push", "--json").stdout)
    assert (data["pushed"], data["changes"]) == ("origin/flotilla/upstream", 1)
    assert data["scan"]["new"][0]["suggestion"] == "{!isHosted && (…)}"
    scan = json.loads(run(world, "scan", "--json").stdout)
    assert [finding["path"] for finding in scan["known"]] == ["ui/src/Form.tsx"]
    assert run(world, "scan", "--json").exit_code == 1


def test_only_one_mode_is_used(world: World) -> None:
    assert run(world, "sync", "--bogus").exit_code == 2


def test_init_writes_the_settings_once(world: World) -> None:
    result = run(world, "init")
    assert result.exit_code == 0
    raw = (world.fork.path / "hosted-mode.toml").read_bytes()
    assert load(raw) == load(None)
    assert "adapterType" in tomllib.loads(raw.decode())["scan"]["infrastructure_words"]
    world.fork.write("hosted-mode.toml", "# mine\n")
    result = run(world, "init")
    assert result.exit_code == 2
    assert "exists and was not changed" in result.stderr
    assert world.fork.read("hosted-mode.toml") == "# mine\n"


def test_changelog_writes_and_prints(world: World) -> None:
    start = world.fork.head
    world.fork.commit("feat: weekly summary emails")
    result = run(world, "changelog", "--since", start)
    assert result.exit_code == 0
    assert result.stdout.startswith("Wrote changelogs/internal/")
    data = json.loads(run(world, "changelog", "--since", start, "--json").stdout)
    assert data["changelog"]["sections"] == [{"title": "New", "items": ["Weekly summary emails"]}]
    assert (world.fork.path / data["files"]["user_facing"]).is_file()
    assert run(world, "changelog", "--since", "nonsense").exit_code == 2


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o700])
def test_new_files_have_the_permissions_of_the_checkout(world: World, mode: int) -> None:
    """Flotilla's umask would hide the changelog from image builds and from the other users of the checkout."""
    world.fork.path.chmod(mode)
    world.upstream.commit("feat: dark theme", {"ui/new/Theme.tsx": "x\n"})
    start = world.fork.head
    for arguments in (["sync"], ["changelog", "--since", start], ["init"]):
        command = ["upstream", *arguments, "--repo", str(world.fork.path)]
        assert CliRunner().invoke(main, command, catch_exceptions=False).exit_code == 0
    new = [world.fork.path / "ui/new", *(world.fork.path / "ui/new").iterdir(), world.fork.path / CONFIG_NAME]
    new += [path for path in (world.fork.path / "changelogs").rglob("*") if not path.is_symlink()]
    for path in new:
        assert stat.S_IMODE(path.stat().st_mode) == (mode if path.is_dir() else mode & 0o666), path


def test_a_folder_without_git_is_refused_by_every_command(tmp_path: Path) -> None:
    for command in ("sync", "scan", "changelog", "init"):
        result = CliRunner().invoke(upstream, [command, "--repo", str(tmp_path)], catch_exceptions=False)
        assert result.exit_code == 2
        assert "not a git working tree" in result.stderr


def test_a_pull_request_reads_its_token_from_a_file(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "UPSTREAM_FORGE_TOKEN" in run(world, "sync", "--pr").stderr
    monkeypatch.setenv("UPSTREAM_FORGE_TOKEN_FILE", str(tmp_path / "missing"))
    assert "cannot be read" in run(world, "sync", "--pr").stderr
    (tmp_path / "token").write_text("secret-token\n")
    monkeypatch.setenv("UPSTREAM_FORGE_TOKEN_FILE", str(tmp_path / "token"))
    result = run(world, "sync", "--pr")
    assert "known forge" in result.stderr
    assert "secret-token" not in result.output
