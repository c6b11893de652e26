"""Whether a file shows a component only behind a guard. Used by `scanner` to understand guarded parents.

A use is guarded if a condition with a guard hides it in hosted mode, such as ``{!isHosted && <Settings />}``, or if
the function returned before it, such as ``if (isHosted) return null``. What the rules cannot read is not guarded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from daemon.upstream.scan.source import Language, without_comments, without_imports, without_strings

_BRACKETS = re.compile(r"[(){}\[\]]")
_DECLARATION = re.compile(r"\b(?:const|let|var)\b[^\n;]*[\n;]|\bfunction\b[^\n({]*")
_STATEMENT_START = re.compile(r";|\n\s*(?:return|const|let|var|export|function|throw|switch|for|while)\b")
_EXIT = r"(?:return|throw|continue|break|redirect|navigate)\b"
_TEMPLATE_BLOCK = re.compile(
    r"\{%-?\s*(?P<tag>if|elif|else|endif)\b(?P<condition>.*?)%\}"
    r"|\{(?P<svelte>[#:/](?:if|else if|else))\b(?P<svelte_condition>[^}]*)\}",
    re.DOTALL,
)
_TAG = re.compile(
    r"<(?P<close>/?)(?P<name>[A-Za-z][\w.:-]*)(?P<attributes>(?:\"[^\"]*\"|'[^']*'|[^>\"'])*?)(?P<empty>/?)>"
)
_CONDITIONAL_ATTRIBUTE = re.compile(
    r"(?P<name>v-if|v-else-if|v-show|x-if|x-show|:hidden|v-bind:hidden|\*ngIf|hidden)\s*=\s*(?P<quote>[\"'])(?P<value>.*?)(?P=quote)",
    re.DOTALL,
)
_NEGATED = re.compile(r"(?:!|\bnot\s+)\s*(?:[\w$]+\??\.)*$")
_OPERATOR = re.compile(r"(?:\(\))?\s*(&&|\|\||\?(?![.?]))")
_VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"]
)


@dataclass
class _Frame:
    """The text of one bracket level so far, with the closed brackets inside it emptied."""

    bracket: str
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.parts)


def imported_names(text: str, specifier: str) -> set[str]:
    """Return the local names that a script gives to what it imports from a module.

    Args:
        text: The importing file without comments.
        specifier: The module as the file writes it.

    Returns:
        The names. Empty for imports of types and for those that only run the module.
    """
    quoted = rf"['\"]{re.escape(specifier)}['\"]"
    names: set[str] = set()
    for clause in re.findall(rf"\bimport\s+(?!type\b)([^;'\"]*?)\s*\bfrom\s*{quoted}", text):
        names |= _clause_names(clause)
    for pattern in (
        rf"\b(?:const|let|var)\s+(\w+)[^;=\n]*=[^;]{{0,200}}?\b(?:import|require)\(\s*{quoted}",
        rf"\b(\w+)\s*[:=]\s*(?:\(\)\s*=>\s*|lazy\(\s*\(\)\s*=>\s*)?import\(\s*{quoted}",
    ):
        names |= set(re.findall(pattern, text))
    return names


def reexported_names(text: str, specifier: str) -> set[str] | None:
    """Return the names that a script passes on from a module, or None if it passes on nothing. ``*`` means all."""
    clauses = re.findall(
        rf"\bexport\s+(?!type\b)(\*(?:\s+as\s+\w+)?|\{{[^}}]*\}})\s*from\s*['\"]{re.escape(specifier)}['\"]", text
    )
    if not clauses:
        return None
    return {"*"} if any(clause.startswith("*") for clause in clauses) else set().union(*map(_clause_names, clauses))


def uses_only_behind_guard(text: str, language: Language, names: set[str], guards: re.Pattern[str]) -> bool:
    """Return whether a file uses names at least once, and every time behind a guard.

    Args:
        text: The file.
        language: How to read it.
        names: Local names of a component, or the path of an included template.
        guards: Pattern that matches a guard.
    """
    code = without_comments(text, language)
    if language is Language.SCRIPT:
        verdicts = _script_uses(without_strings(without_imports(code)), names, guards)
    elif language is Language.COMPONENT:
        kebab = {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower() for name in names}
        verdicts = _markup_uses(code, {*names, *kebab}, guards)
    else:
        verdicts = _include_uses(code, names, guards)
    found = list(verdicts)
    return bool(found) and all(found)


def _clause_names(clause: str) -> set[str]:
    named = re.search(r"\{(.*?)\}", clause, re.DOTALL)
    parts = [part.strip() for part in named[1].split(",")] if named else []
    names = {re.split(r"\s+as\s+", part)[-1] for part in parts if part and not part.startswith("type ")}
    rest = re.sub(r"\{.*?\}", "", clause, flags=re.DOTALL)
    names |= {re.split(r"\s+as\s+", part.strip())[-1] for part in rest.split(",") if part.strip()}
    return {name for name in names if re.fullmatch(r"[\w$]+", name)}


def _script_uses(code: str, names: set[str], guards: re.Pattern[str]) -> Iterator[bool]:
    uses = re.compile(rf"(?<![\w.$])(?:{'|'.join(sorted(map(re.escape, names)))})(?![\w$])")
    lazy = re.compile(r"\b(?:const|let|var)\s+$")
    positions = [
        match.start()
        for match in uses.finditer(code)
        if code[match.start() - 2 : match.start()] != "</"
        and not lazy.search(code, max(0, match.start() - 20), match.start())
    ]
    stack = [_Frame("")]
    done = 0
    events = sorted(
        [*((match.start(), True) for match in _BRACKETS.finditer(code)), *((at, False) for at in positions)]
    )
    for at, is_bracket in events:
        stack[-1].parts.append(code[done:at])
        done = at
        if not is_bracket:
            yield any(_hides_what_follows(frame.text, guards) for frame in stack)
        elif code[at] in "({[":
            stack.append(_Frame(code[at]))
            done = at + 1
        else:
            done = at + 1
            if len(stack) > 1:
                closed = stack.pop()
                stack[-1].parts.append(_closed(closed, stack[-1].text))


def _closed(frame: _Frame, before: str) -> str:
    """Return what remains of a closed bracket: the condition of an `if`, and whether a block leaves the function."""
    if frame.bracket == "(" and re.search(r"\b(?:if|while|switch)\s*$", before):
        return "(" + frame.text.replace("\n", " ") + ")"
    if frame.bracket == "{" and re.search(rf"(?:^|[;\n{{])\s*{_EXIT}", frame.text):
        return "{return}"
    return {"(": "()", "{": "{}", "[": "[]"}[frame.bracket]


def _hides_what_follows(level: str, guards: re.Pattern[str]) -> bool:
    """Return whether the text of one bracket level makes what follows invisible in hosted mode."""
    if not guards.search(level):
        return False
    return _is_behind_if(level, guards) or _is_behind_operator(level, guards)


def _is_behind_if(level: str, guards: re.Pattern[str]) -> bool:
    for match in re.finditer(r"\bif\s*\(([^()]*)\)\s*", level):
        shown, hidden = _polarity(match[1], guards)
        rest = level[match.end() :]
        leaves = re.match(rf"(?:\{{return\}}|{_EXIT}[^;\n]*)[;\n\s]", rest)
        is_in_else = re.match(r"\{(?:return)?\}\s*else\s*$", rest)
        is_in_branch = not re.search(r"[;\n}]", rest.strip())
        if (shown and (leaves or is_in_else)) or (hidden and is_in_branch):
            return True
    return False


def _is_behind_operator(level: str, guards: re.Pattern[str]) -> bool:
    """Return whether the expression before what follows is such as ``!isHosted &&`` or ``isHosted ? null :``."""
    code = _DECLARATION.sub(" ", level)
    starts = [match.end() for match in _STATEMENT_START.finditer(code)]
    expression = code[starts[-1] if starts else 0 :]
    for match in guards.finditer(expression):
        negated = _NEGATED.search(expression, 0, match.start()) is not None
        operator = _OPERATOR.match(expression, match.end())
        if operator is None:
            continue
        in_second_branch = operator[1] == "?" and ":" in expression[operator.end() :]
        if negated == (operator[1] != "||" and not in_second_branch):
            return True
    return False


def _polarity(condition: str, guards: re.Pattern[str]) -> tuple[bool, bool]:
    """Return whether a condition contains a guard as it is, and whether it contains a negated one."""
    negated = [_NEGATED.search(condition, 0, match.start()) is not None for match in guards.finditer(condition)]
    return not all(negated), any(negated)


def _include_uses(code: str, paths: set[str], guards: re.Pattern[str]) -> Iterator[bool]:
    """Answer for every include of a template."""
    includes = re.compile(rf"['\"](?:{'|'.join(sorted(map(re.escape, paths)))})['\"]")
    for match in includes.finditer(code):
        yield _in_guarded_block(code, match.start(), guards) or _in_guarded_element(code, match.start(), guards)


def _markup_uses(code: str, names: set[str], guards: re.Pattern[str]) -> Iterator[bool]:
    """Answer for every element of a Vue or Svelte component."""
    uses = re.compile(rf"<(?:{'|'.join(sorted(map(re.escape, names)))})(?![\w.-])")
    for match in uses.finditer(code):
        tag = _TAG.match(code, match.start())
        own = tag is not None and _has_guard(tag["attributes"], guards)
        at = match.start()
        yield own or _in_guarded_block(code, at, guards) or _in_guarded_element(code, at, guards)


def _in_guarded_block(code: str, position: int, guards: re.Pattern[str]) -> bool:
    # For each open block: whether an earlier condition was a guard, and whether the present branch is hidden.
    stack: list[tuple[bool, bool]] = []
    for match in _TEMPLATE_BLOCK.finditer(code, 0, position):
        tag = (match["tag"] or match["svelte"]).strip("#:/")
        shown, hidden = _polarity(match["condition"] or match["svelte_condition"] or "", guards)
        if tag == "endif" or match["svelte"] == "/if":
            if stack:
                stack.pop()
        elif tag == "if":
            stack.append((shown, hidden))
        elif stack:
            stack[-1] = (stack[-1][0] or shown, stack[-1][0] or hidden)
    return any(hidden for _, hidden in stack)


def _in_guarded_element(code: str, position: int, guards: re.Pattern[str]) -> bool:
    stack: list[tuple[str, bool]] = []
    for match in _TAG.finditer(code, 0, position):
        name = match["name"]
        if match["close"]:
            while stack and stack.pop()[0] != name:
                pass
        elif not match["empty"] and name.lower() not in _VOID:
            stack.append((name, _has_guard(match["attributes"], guards)))
    return any(guarded for _, guarded in stack)


def _has_guard(attributes: str, guards: re.Pattern[str]) -> bool:
    for match in _CONDITIONAL_ATTRIBUTE.finditer(attributes):
        shown, hidden = _polarity(match["value"], guards)
        if shown if "hidden" in match["name"] else hidden:
            return True
    return False
