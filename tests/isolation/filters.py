"""The scope filters of the code: what keeps an agent, or a key of the training server, to its own.

Owns finding them and what each looks like when it is taken away; refuses to know tests. Invariant: filters in SQL and
comparisons of agents are found wherever they are written, so that a new one is tried without anybody adding it here;
what only looks like one is named below with the reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOMS = ("gateway", "journal", "learner", "memory", "recall", "skills", "training/api")

_VALUE = r"\?\d*|:agent|\w+\.agent"
_SQL = re.compile(
    rf"(?<!SET )\b(?:(?:\w+\.)?(?:agent|owner) = (?P<value>{_VALUE})"
    r"|units\.(?:user|workspace|session) = (?P<scoped>\?))"
)
_NAMES = frozenset(("agent", "bound", "bound_agent", "only_agent", "owner", "layer"))
_SQL_ROOMS = ("journal/", "memory/", "training/")
_MINE = "{self.mine}"
_MAY_USE = re.compile(r"\b\w+\.may_use\([^()]*\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A place in a file of ``src/metaclaw``: ``start`` to ``end`` is the filter, ``without`` stands for its absence."""

    file: str
    start: int
    end: int
    without: str
    line: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"

    def taken_from(self, source: str) -> str:
        return source[: self.start] + self.without + source[self.end :]


# (file, what it says, what it would say without its filter), each found exactly once.
BY_HAND: tuple[tuple[str, str, str], ...] = (
    ("identity.py", "not given.isascii() or ", ""),
    ("identity.py", "not _AGENT.fullmatch(lowered)", "not lowered"),
    ("identity.py", ' or ".." in lowered', ""),
    ("identity.py", ' or lowered.endswith(".")', ""),
    ("identity.py", "stripped = value.strip(_BLANKS)", "stripped = value.strip()"),
    ("chat/exchanges.py", 'f"{agent}\\n{session}\\n"', 'f"\\n{session}\\n"'),
    ("gateway/access.py", "agent=token.agent", "agent=None"),
    ("gateway/app.py", "only_agent=agent", "only_agent=None"),
    ("gateway/claims.py", "        require_own_agent(evidence.bound_agent, said)", "        pass"),
    ("gateway/claims.py", "return evidence.bound_agent", "return said[0] if said else DEFAULT_AGENT"),
    ("gateway/conversations.py", "{who}\\n{agent}", "{who}\\n"),
    ("gateway/conversations.py", '(f"{who}', '(f"'),
    ("gateway/memory_routes.py", ").agent) is not None:", ").agent) is False:"),
    ("gateway/policy.py", '"model": choice.model', '"model": request.model'),
    (
        "gateway/policy_history.py",
        "self._known.get((agent, session, answer_identity(message)))",
        "next((kept for key, kept in self._known.items() if key[1] == session), None)",
    ),
    (
        "gateway/policy_history.py",
        "if (agent, session) in self._read_sessions:",
        "if session in [key[1] for key in self._read_sessions]:",
    ),
    ("gateway/door.py", "require_own_agent(principal.agent, said)", "pass"),
    ("gateway/door.py", "agent = principal.agent or next(", "agent = next("),
    ("gateway/train_step.py", "if principal.id != OWNER:", "if False:"),
    (
        "journal/turn_writer.py",
        "return [self._blocks.get((agent, key)) for key in keys]",
        "return [next((b for (_, k), b in self._blocks.items() if k == key), None) for key in keys]",
    ),
    (
        "journal/turn_writer.py",
        "(block := self._blocks.get((agent, key))) is not None",
        "(block := next((b for (_, k), b in self._blocks.items() if k == key), None)) is not None",
    ),
    ("memory/consolidation.py", "if _owner(found.unit) == _owner(unit)\n        and", "if"),
    ("memory/consolidation.py", "if _owner(old) == _owner(unit) and old.trust", "if old.trust"),
    ("memory/extraction/elsewhere.py", '"agent": whose.agent, ', ""),
    ("memory/extraction/elsewhere.py", "json.dumps([self.agent, ", "json.dumps(["),
    ("memory/units.py", "json.dumps([unit.agent, ", "json.dumps(["),
    ("memory/units.py", "unit.scope, owner, unit.kind", "unit.scope, unit.kind"),
    ("skills/layout.py", "if owner == SHARED or is_agent(owner):", "if owner:"),
    ("skills/layout.py", "    if is_skill_name(name):", "    if name:"),
    ("skills/layout.py", "return agent_id(name) == name", "return bool(agent_id(name))"),
    ("skills/library.py", "return agent if agent in self.agents else _NOBODY", "return _NOBODY"),
    ("skills/retired.py", "(agent, name) in self.pairs or", "any(one == name for _, one in self.pairs) or"),
    ("training/api/registry.py", "None if tenant.is_admin else tenant.key_id", "None"),
    ("training/samplers/prefix_cache.py", "reversed(self._kept) if kept.slot == slot", "reversed(self._kept)"),
)

_NO_SCOPE = "it says which layer or folder, and whose that is was decided before"
# Comparisons that keep nobody from anything: (file, text) and why.
NO_FILTERS: dict[tuple[str, str], str] = {
    ("gateway/agent_routers.py", "agent not in kept"): "it says which model is no longer needed",
    ("learner/skills/asked.py", "request.agent == EVERYBODY"): "it widens what a person asked for",
    ("learner/skills/views.py", "owner != agent"): "it keeps a model from what a person wrote for this same agent",
    ("learner/taking_in.py", "agent not in self._refused"): "it says whether something is waited for",
    ("learner/tracking/wandb_runs.py", "point.agent not in self._runs"): "it says whether something is there",
    ("learner/live_runs.py", "agent in self._runs"): "it says whether something is there",
    ("skills/catalogue.py", "one.owner != STARTER"): _NO_SCOPE,
    ("skills/layout.py", "owner != SHARED"): _NO_SCOPE,
    ("skills/layout.py", "owner == SHARED"): _NO_SCOPE,
    ("skills/library.py", "agent in self.agents"): "agents without skills of their own share a view, which saves room",
    ("skills/older_folder.py", "one.owner != SHARED"): _NO_SCOPE,
    ("skills/older_folder.py", "owner == SHARED"): _NO_SCOPE,
    ("skills/openclaw_folders.py", "agent != DEFAULT_AGENT"): _NO_SCOPE,
    ("skills/openclaw_folders.py", "agent == DEFAULT_AGENT"): _NO_SCOPE,
    ("skills/openclaw_folders.py", "agent not in entries"): _NO_SCOPE,
    ("skills/owners.py", "owner in own"): "it says where a folder lies",
    ("skills/retired.py", "agent == EVERYBODY"): "what names nobody is passed over anyway",
    ("training/api/admission.py", "owner in owners"): "it shares time, and shows nothing",
}


def find_filters(root: Path) -> list[Filter]:
    """Every filter below ``root`` (``src/metaclaw``). Raises ``LookupError`` for one named here that is not there."""
    found = [one for path in sorted(root.rglob("*.py")) for one in _in_file(root, path)]
    known = {(one.file, one.text) for one in found}
    if gone := [key for key in NO_FILTERS if key not in known]:
        raise LookupError(f"NO_FILTERS names what is not there: {gone[0]}")
    return [one for one in found if (one.file, one.text) not in NO_FILTERS] + [_by_hand(root, *one) for one in BY_HAND]


def _in_file(root: Path, path: Path) -> Iterator[Filter]:
    file = path.relative_to(root).as_posix()
    if not file.startswith(tuple(f"{room}/" for room in ROOMS)):
        return
    source = path.read_text(encoding="utf-8")
    for match in _SQL.finditer(source) if file.startswith(_SQL_ROOMS) else ():
        value = match["value"] or match["scoped"]
        yield _filter(file, source, match.start(), match.end(), f"({value} IS NOT NULL)")
    for start in (one.start() for one in re.finditer(re.escape(_MINE), source)):
        yield _filter(file, source, start, start + len(_MINE), "(TRUE OR {self.mine})")
    for match in _MAY_USE.finditer(source):
        yield _filter(file, source, match.start(), match.end(), "True")
    yield from _comparisons(file, source)


def _comparisons(file: str, source: str) -> Iterator[Filter]:
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare) or len(node.ops) != 1:
            continue
        always = {ast.Eq: "True", ast.In: "True", ast.NotEq: "False", ast.NotIn: "False"}.get(type(node.ops[0]))
        if always is None or not any(_is_scope(side) for side in (node.left, *node.comparators)):
            continue
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = _offset(source, lines, node.lineno, node.col_offset)
        end = _offset(source, lines, node.end_lineno, node.end_col_offset)
        yield _filter(file, source, start, end, always)


def _is_scope(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name in _NAMES


def _offset(source: str, lines: list[int], line: int, column: int) -> int:
    text = source[lines[line - 1] : lines[line]]
    return lines[line - 1] + len(text.encode()[:column].decode())


def _by_hand(root: Path, file: str, old: str, new: str) -> Filter:
    source = (root / file).read_text(encoding="utf-8")
    if source.count(old) != 1:
        raise LookupError(f"{file} has {old!r} {source.count(old)} times: say anew what its filter is")
    start = source.index(old)
    return _filter(file, source, start, start + len(old), new)


def _filter(file: str, source: str, start: int, end: int, without: str) -> Filter:
    line = source.count("\n", 0, start) + 1
    text = " ".join(source[start:end].split())
    return Filter(file=file, start=start, end=end, without=without, line=line, text=text)
