"""The scan: which files need a guard, which have one, and which are shown only behind one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.upstream.repository.git import Git
from daemon.upstream.scan.findings import ScanResult
from daemon.upstream.scan.hosted_mode import load
from daemon.upstream.scan.scanner import scan
from daemon.upstream.scan.source import Language, without_comments
from tests.daemon.upstream.repos import new_repo


def scan_files(
    folder: Path, files: dict[str, str], settings_text: str = "", before: frozenset[tuple[str, str]] = frozenset()
) -> ScanResult:
    """Scan a repository with these files."""
    repo = new_repo(folder / "repo")
    repo.commit("Files", dict(files))
    return scan(Git(repo.path), load(settings_text.encode()), before)


def found(result: ScanResult) -> set[tuple[str, str]]:
    """Path and word of the findings."""
    return {finding.key for finding in result.findings}


@pytest.mark.parametrize("extension", ["tsx", "jsx", "ts", "js", "mjs", "vue", "svelte", "html", "jinja", "j2"])
def test_a_word_without_a_guard_is_found_in_every_kind_of_file(tmp_path: Path, extension: str) -> None:
    path = f"ui/src/File.{extension}"
    result = scan_files(tmp_path, {path: "\n<p>adapterType</p>\nnothing\nadapterType again\n"})
    (finding,) = result.new
    assert (finding.path, finding.word, finding.lines) == (path, "adapterType", (2, 4))
    assert finding.excerpt == "<p>adapterType</p>"
    assert finding.subject == "infrastructure"
    assert finding.suggestion


@pytest.mark.parametrize("word", load(None).scan_words)
def test_every_word_of_the_design_is_found(tmp_path: Path, word: str) -> None:
    assert found(scan_files(tmp_path, {"ui/a.ts": f"x({word});\n"})) >= {("ui/a.ts", word)}


@pytest.mark.parametrize("guard", ["hostedMode", "isHosted", "is_hosted"])
def test_a_file_with_a_guard_is_no_finding(tmp_path: Path, guard: str) -> None:
    result = scan_files(tmp_path, {"ui/a.tsx": f"if ({guard}) return null;\nadapterType;\n"})
    assert found(result) == set()
    assert result.guarded == {"ui/a.tsx"}


@pytest.mark.parametrize(
    "text",
    [
        "// TODO: ask isHosted\nadapterType;\n",
        "/* isHosted */ adapterType;\n",
        "import { isHosted } from './hosted';\nadapterType;\n",
        "export { isHosted } from './hosted';\nadapterType;\n",
        "notisHosted(); isHostedX(); adapterType;\n",
    ],
)
def test_a_guard_that_is_not_used_does_not_count(tmp_path: Path, text: str) -> None:
    assert found(scan_files(tmp_path, {"ui/a.tsx": text})) == {("ui/a.tsx", "adapterType")}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ui/a.tsx", "// adapterType\n"),
        ("ui/a.tsx", "/* adapterType\n adapterType */ x;\n"),
        ("ui/a.vue", "<template><!-- adapterType --></template>\n"),
        ("ui/a.html", "{# adapterType #}<p></p>\n"),
        ("ui/a.html", "{% comment %}adapterType{% endcomment %}\n"),
        ("ui/a.html", "<!-- adapterType -->\n"),
    ],
)
def test_a_word_in_a_comment_is_no_finding(tmp_path: Path, path: str, text: str) -> None:
    assert found(scan_files(tmp_path, {path: text})) == set()


@pytest.mark.parametrize(
    "text",
    [
        'x("https://example.com", adapterType);',
        "<p>See https://a.b/c adapterType</p>",
        'f("/*"); adapterType; g("*/");',
    ],
)
def test_what_only_looks_like_a_comment_is_read(tmp_path: Path, text: str) -> None:
    assert found(scan_files(tmp_path, {"ui/a.tsx": text})) == {("ui/a.tsx", "adapterType")}


@pytest.mark.parametrize(
    "path",
    [
        "ui/a.test.tsx",
        "ui/__tests__/a.tsx",
        "ui/tests/a.ts",
        "ui/a.stories.tsx",
        "ui/node_modules/x/a.js",
        "ui/a.d.ts",
        "server/a.ts",
        "ui/a.md",
        "ui/a.py",
    ],
)
def test_files_that_no_user_sees_are_left_out(tmp_path: Path, path: str) -> None:
    result = scan_files(tmp_path, {path: "adapterType", "ui/b.ts": "x"})
    assert found(result) == set()
    assert result.files == 1


def test_folders_words_guards_and_ignore_lists_are_settings(tmp_path: Path) -> None:
    files = {
        "panel/a.tsx": "secretPanel;",
        "panel/b.tsx": "secretPanel; cloudMode;",
        "panel/old/c.tsx": "secretPanel;",
        "ui/d.tsx": "adapterType;",
    }
    text = """
        [scan]
        folders = ["panel/"]
        guards = ["cloudMode"]
        infrastructure_words = ["secretPanel"]
        ignore = ["panel/old/**"]
    """
    result = scan_files(tmp_path, files, text)
    assert found(result) == {("panel/a.tsx", "secretPanel")}
    assert result.folders == ("panel",)
    assert "cloudMode" in result.new[0].suggestion


def test_folders_that_do_not_exist_are_told(tmp_path: Path) -> None:
    result = scan_files(tmp_path, {"a.ts": "adapterType"}, "[scan]\nfolders = ['panel']\n")
    assert (result.folders, result.files) == ((), 0)


def test_findings_are_compared_with_the_last_sync(tmp_path: Path) -> None:
    before = frozenset({("ui/a.tsx", "adapterType"), ("ui/b.tsx", "adapterType"), ("ui/gone.tsx", "boardClaim")})
    files = {"ui/a.tsx": "adapterType; boardClaim", "ui/b.tsx": "isHosted && adapterType"}
    result = scan_files(tmp_path, files, before=before)
    assert [finding.key for finding in result.new] == [("ui/a.tsx", "boardClaim")]
    assert [finding.key for finding in result.known] == [("ui/a.tsx", "adapterType")]
    assert result.gone == (("ui/b.tsx", "adapterType"), ("ui/gone.tsx", "boardClaim"))
    assert result.guards_added == (("ui/b.tsx", "adapterType"),)


CHILD = "export function Child() { return <p>{adapterType}</p>; }\n"
GUARDED_PARENTS = {
    "condition": "return <main>{!isHosted && <Child />}</main>;",
    "condition over lines": "return (\n  <main>\n    {!isHosted && (\n      <Child\n a={1} />\n    )}\n  </main>\n);",
    "ternary": "return isHosted ? null : <Child />;",
    "early return": "if (isHosted) return null;\n  return <Child />;",
    "early return in a block": "if (isHosted) {\n    return x;\n  }\n  return <main><Child /></main>;",
    "block": "if (!isHosted) {\n    return <Child />;\n  }\n  return null;",
    "list": "return <List items={isHosted ? [] : [Child, Other]} />;",
    "other branch of an if": "if (isHosted) {\n    show();\n  } else {\n    return <Child />;\n  }",
    "negated ternary": "return !isHosted ? <Child /> : null;",
    "of a context": "return <main>{!hosting.isHosted && <Child />}</main>;",
    "called": "return <main>{!isHosted() && <Child />}</main>;",
    "with other conditions": "return <main>{may && !isHosted && ready && <Child />}</main>;",
    "several uses": "return <main>{!isHosted && <Child />}{isHosted || <Child />}</main>;",
}
OPEN_PARENTS = {
    "only in hosted mode": "return <main>{isHosted && <Child />}</main>;",
    "first branch of a ternary": "return isHosted ? <Child /> : null;",
    "second branch of a negated ternary": "return !isHosted ? null : <Child />;",
    "return of the other mode": "if (!isHosted) return null;\n  return <Child />;",
    "block of hosted mode": "if (isHosted) {\n    return <Child />;\n  }\n  return null;",
    "no guard": "return <Child />;",
    "guard elsewhere": "return <main>{isHosted && <Banner />}<Child /></main>;",
    "guard in another statement": "const hosted = isHosted;\n  return <Child />;",
    "guard of a sibling": "return <main>{!isHosted && (<p>x</p>)}\n<Child /></main>;",
    "one use of two": "return <main>{!isHosted && <Child />}<Child /></main>;",
    "early return of another function": "const f = () => { if (isHosted) return 1; };\n  return <Child />;",
    "guard after it": "return <main><Child />{isHosted && <Banner />}</main>;",
    "attribute": "return <main><Other hosted={isHosted} /><Child /></main>;",
    "guard in a string": "return <main>{x('isHosted') && <Child />}</main>;",
}


def parent(body: str) -> str:
    """A component that imports the child."""
    return f"import {{ Child }} from './Child';\nexport function Parent({{ isHosted }}) {{\n  {body}\n}}\n"


@pytest.mark.parametrize("body", GUARDED_PARENTS.values(), ids=GUARDED_PARENTS)
def test_a_child_behind_its_parents_guard_is_no_finding(tmp_path: Path, body: str) -> None:
    assert found(scan_files(tmp_path, {"ui/src/Child.tsx": CHILD, "ui/src/Parent.tsx": parent(body)})) == set()


@pytest.mark.parametrize("body", OPEN_PARENTS.values(), ids=OPEN_PARENTS)
def test_a_child_that_its_parent_shows_without_a_guard_is_found(tmp_path: Path, body: str) -> None:
    result = scan_files(tmp_path, {"ui/src/Child.tsx": CHILD, "ui/src/Parent.tsx": parent(body)})
    assert found(result) == {("ui/src/Child.tsx", "adapterType")}


IMPORTS = {
    "default": ("import Child from '../parts/Child';", "ui/src/parts/Child.tsx"),
    "renamed": ("import { Settings as Child } from '@/parts/Child';", "ui/src/parts/Child.tsx"),
    "with extension": ("import Child from '../parts/Child.tsx';", "ui/src/parts/Child.tsx"),
    "index": ("import Child from '../parts/Child';", "ui/src/parts/Child/index.tsx"),
    "lazy": ("const Child = lazy(() => import('../parts/Child'));", "ui/src/parts/Child.tsx"),
    "require": ("const Child = require('../parts/Child');", "ui/src/parts/Child.tsx"),
    "over lines": ("import {\n  Other,\n  Child,\n} from '../parts/Child';", "ui/src/parts/Child.tsx"),
}


@pytest.mark.parametrize(("statement", "child"), IMPORTS.values(), ids=IMPORTS)
@pytest.mark.parametrize("guarded", [True, False])
def test_imports_of_every_form_are_followed(tmp_path: Path, statement: str, child: str, guarded: bool) -> None:
    use = "{!isHosted && <Child />}" if guarded else "<Child />"
    files = {child: CHILD, "ui/src/pages/Parent.tsx": f"{statement}\nexport const P = () => <main>{use}</main>;\n"}
    assert found(scan_files(tmp_path, files)) == (set() if guarded else {(child, "adapterType")})


def test_guards_reach_grandchildren(tmp_path: Path) -> None:
    files = {
        "ui/Grandchild.tsx": CHILD,
        "ui/Child.tsx": "import Grandchild from './Grandchild';\nexport const Child = () => <Grandchild />;\n",
        "ui/Parent.tsx": parent("return <main>{!isHosted && <Child />}</main>;"),
    }
    assert found(scan_files(tmp_path, files)) == set()


def test_one_open_parent_among_many_is_enough(tmp_path: Path) -> None:
    files = {
        "ui/Child.tsx": CHILD,
        "ui/A.tsx": parent("return <main>{!isHosted && <Child />}</main>;"),
        "ui/B.tsx": parent("return <Child />;"),
    }
    assert found(scan_files(tmp_path, files)) == {("ui/Child.tsx", "adapterType")}


def test_files_that_import_each_other_are_found(tmp_path: Path) -> None:
    files = {
        "ui/A.tsx": "import B from './B';\nadapterType;\n<B />;\n",
        "ui/B.tsx": "import A from './A';\nadapterType;\n<A />;\n",
    }
    assert found(scan_files(tmp_path, files)) == {("ui/A.tsx", "adapterType"), ("ui/B.tsx", "adapterType")}


@pytest.mark.parametrize("guarded", [True, False])
def test_a_child_behind_a_barrel_is_followed(tmp_path: Path, guarded: bool) -> None:
    use = "{!isHosted && <Child />}" if guarded else "<Child />"
    files = {
        "ui/parts/Child.tsx": CHILD,
        "ui/parts/index.ts": "export { Child } from './Child';\nexport { Other } from './Other';\n",
        "ui/Parent.tsx": f"import {{ Child }} from './parts';\nexport const P = () => <main>{use}</main>;\n",
        "ui/Else.tsx": "import { Other } from './parts';\nexport const E = () => <Other />;\n",
    }
    assert found(scan_files(tmp_path, files)) == (set() if guarded else {("ui/parts/Child.tsx", "adapterType")})


def test_an_import_of_types_shows_nothing(tmp_path: Path) -> None:
    files = {
        "ui/Child.tsx": CHILD,
        "ui/A.tsx": parent("return <main>{!isHosted && <Child />}</main>;"),
        "ui/B.ts": "import type { Child } from './Child';\nexport type X = typeof Child;\n",
    }
    assert found(scan_files(tmp_path, files)) == set()


@pytest.mark.parametrize(
    ("extension", "use", "guarded"),
    [
        ("vue", '<Child v-if="!isHosted" />', True),
        ("vue", '<section v-if="!isHosted"><p>x</p><child /></section>', True),
        ("vue", '<section v-if="!isHosted"></section><Child />', False),
        ("vue", "<Child />", False),
        ("vue", '<Child v-if="isHosted" />', False),
        ("vue", '<Child :hidden="isHosted" />', True),
        ("svelte", "{#if isHosted}<Child />{/if}", False),
        ("svelte", "{#if isHosted}x{:else}<Child />{/if}", True),
        ("svelte", "{#if !isHosted}<Child />{/if}", True),
        ("svelte", "{#if !isHosted}<p>x</p>{/if}<Child />", False),
    ],
)
def test_guards_of_vue_and_svelte_are_understood(tmp_path: Path, extension: str, use: str, guarded: bool) -> None:
    import_ = f"import Child from './Child.{extension}';"
    script = f"<script>\n{import_}\nexport default {{ components: {{ Child }} }};\n</script>\n"
    files = {
        f"ui/Child.{extension}": "<p>adapterType</p>\n",
        f"ui/Parent.{extension}": f"{script}<template>\n<main>{use}</main>\n</template>\n",
    }
    assert found(scan_files(tmp_path, files)) == (set() if guarded else {(f"ui/Child.{extension}", "adapterType")})


@pytest.mark.parametrize(
    ("use", "guarded"),
    [
        ('{% if not is_hosted %}{% include "parts/child.html" %}{% endif %}', True),
        ('{% if user %}{% if is_hosted %}x{% else %}{% include "parts/child.html" %}{% endif %}{% endif %}', True),
        ('{% if not is_hosted %}x{% endif %}{% include "parts/child.html" %}', False),
        ('{% include "parts/child.html" %}', False),
        ('{% if is_hosted %}{% include "parts/child.html" %}{% endif %}', False),
        ('{% if not is_hosted %}x{% else %}{% include "parts/child.html" %}{% endif %}', False),
    ],
)
def test_guards_of_python_templates_are_understood(tmp_path: Path, use: str, guarded: bool) -> None:
    files = {"templates/parts/child.html": "<p>adapterType</p>\n", "templates/page.html": f"<main>{use}</main>\n"}
    assert found(scan_files(tmp_path, files)) == (
        set() if guarded else {("templates/parts/child.html", "adapterType")}
    )


def test_listed_children_are_no_findings(tmp_path: Path) -> None:
    files = {"ui/forms/Child.tsx": CHILD, "ui/Other.tsx": CHILD}
    result = scan_files(tmp_path, files, "[scan]\nguarded_children = ['ui/forms/**']\n")
    assert found(result) == {("ui/Other.tsx", "adapterType")}


def test_uncommitted_files_are_scanned_and_ignored_ones_are_not(tmp_path: Path) -> None:
    repo = new_repo(tmp_path / "repo")
    repo.commit("Files", {"ui/a.ts": "x", ".gitignore": "ignored.ts\n"})
    repo.write("ui/new.ts", "adapterType")
    repo.write("ui/ignored.ts", "adapterType")
    assert found(scan(Git(repo.path), load(None), frozenset())) == {("ui/new.ts", "adapterType")}


def test_unusual_files_do_not_stop_the_scan(tmp_path: Path) -> None:
    repo = new_repo(tmp_path / "repo")
    name = b"ui/caf\xe9 \n.ts".decode(errors="surrogateescape")
    repo.commit("Files", {
        name: "adapterType", "ui/binary.ts": b"\0\xff\xfeadapterType", "ui/latin.ts": b"// \xe9\nadapterType",
        "ui/crlf.ts": b"x\r\nadapterType\r\n", "ui/empty.ts": "",
    })  # fmt: skip
    (repo.path / "ui/link.ts").symlink_to("/etc/passwd")
    (repo.path / "ui/loop.ts").symlink_to("loop.ts")
    result = scan(Git(repo.path), load(None), frozenset())
    assert {finding.path: finding.lines for finding in result.new} == {
        name: (1,), "ui/latin.ts": (2,), "ui/crlf.ts": (2,), "ui/binary.ts": (1,),
    }  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="/*\"'`\\\n <!->{}#%aé:", max_size=60), st.sampled_from(Language))
def test_removing_comments_keeps_lines_and_offsets(text: str, language: Language) -> None:
    code = without_comments(text, language)
    assert len(code) == len(text)
    assert [len(line) for line in code.split("\n")] == [len(line) for line in text.split("\n")]


def test_a_broken_repository_is_reported(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "ui").mkdir()
    assert scan(Git(tmp_path), load(None), frozenset()).files == 0
