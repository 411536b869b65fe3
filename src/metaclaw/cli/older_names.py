"""What the commands and options of the older MetaClaw are here.

Owns one table of names and the moment at which it is looked at; refuses to know what any command does. Invariant: it
is asked only about what was refused, so that no command of ours ever meets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import typer
from typer.core import TyperGroup

from metaclaw.errors import ConfigError

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # click's, or that of the click which typer brings along

_SETTLED = (
    "nothing: what says the same is one memory, and a later statement ends the earlier, as things are said; "
    "`metaclaw memory edit` and `forget` for the rest"
)
_NO_POLICY = "nothing: memories have no policy that rewrites itself, so there is nothing to review or to roll back"
_NO_MARKS = (
    "nothing: memories have no tags, links or notes; `metaclaw memory add --subject` says what one is about, "
    "`metaclaw memory show` from which turns it is"
)
_REPORT = "`metaclaw memory report`, and `metaclaw dashboard` to look around"
_UNTIL = "`metaclaw memory edit ID --until DAY` for one, `metaclaw memory forget --before DAY` for what is old"
_DOCTOR = "`metaclaw memory doctor --fix`"
_BETWEEN = (
    "`metaclaw memory export --agent A FILE` and `metaclaw memory import --agent B FILE`, "
    "or `metaclaw agents rename` for all of an agent"
)
_CHANNEL = "OpenClaw's own channel: `openclaw channels login --channel openclaw-weixin`"
_HOME = "a home for each: METACLAW_HOME=FOLDER before the command, with the config.yaml in that folder"
_WHOSE = "--agent, and where it is listed --user, --workspace or --session"

# What does it here -> the commands, as patterns. The first that fits counts.
_COMMANDS: dict[str, tuple[str, ...]] = {
    "`metaclaw setup`, or `metaclaw config llm.auth_method oauth_token` and `metaclaw config llm.oauth_token -`": (
        "auth paste-token",
    ),
    "`metaclaw setup`, or `metaclaw config llm.api_key -` (llm.api_keys for several)": ("auth paste-key",),
    "`metaclaw status`, which says what key is left alone and for how long": ("auth status",),
    "`metaclaw config llm.api_key -` (or llm.api_keys, llm.oauth_token) and an empty line": ("auth remove",),
    "`metaclaw setup` for keys and subscriptions, `metaclaw status` for how they fare": ("auth",),
    _CHANNEL: ("wechat-*",),
    "`metaclaw memory search`; `metaclaw memory list` with --kind, --user, --workspace or --session": (
        "memory search-advanced", "memory search-context", "memory search-grouped", "memory similar",
    ),
    "`metaclaw memory export | grep -E PATTERN`": ("memory search-regex",),
    "`metaclaw memory list`, or `metaclaw memory show ID...`": (
        "memory inventory", "memory sample", "memory batch-get",
    ),
    "`metaclaw memory list --history`, or `metaclaw memory show ID`": (
        "memory history", "memory version-tree", "memory lifecycle", "memory diff",
    ),
    "`metaclaw audit`, and `metaclaw memory show ID` for where one is from": ("memory events", "memory audit-trail"),
    _NO_POLICY: (
        "memory *-candidates", "memory *-candidate", "memory candidates-*", "memory replay-report", "memory review-*",
        "memory auto-upgrade", "memory rollback", "memory upgrade-history", "memory cycle-history",
        "memory health-history", "memory alerts", "memory cleanup-artifacts",
    ),
    "`metaclaw tokens create NAME --agent A`, and `metaclaw tokens list` and `revoke`": (
        "memory grant-access", "memory revoke-access", "memory scope-grants",
    ),
    _BETWEEN: (
        "memory migrate-scope*", "memory merge-scope*", "memory clone-scope*", "memory share",
    ),
    "`metaclaw memory forget --agent A`, with `metaclaw memory export` before": (
        "memory archive-scope*", "memory batch-archive", "memory cascade-archive",
    ),
    _UNTIL: (
        "memory ttl", "memory type-ttl", "memory auto-ttl", "memory expire", "memory expiry-forecast",
        "memory typed-retention", "memory retention-analysis",
    ),
    "`metaclaw memory export` (lines of JSON), and for the turns themselves `metaclaw journal export`": (
        "memory export-*",
    ),
    "`metaclaw memory import`": ("memory import-*",),
    "`metaclaw memory backup FILE`, and `metaclaw memory import FILE` to have it back": (
        "memory snapshot", "memory restore", "memory snapshot-compare",
    ),
    _DOCTOR: (
        "memory gc", "memory cleanup-orphans", "memory maintenance", "memory validate", "memory re-embed",
        "memory health-check", "memory diagnose", "memory rebalance",
    ),
    _NO_MARKS: (
        "memory tag", "memory find-tag", "memory annotat*", "memory bookmark*", "memory link*", "memory watch*",
        "memory unwatch", "memory bulk-pin", "memory auto-tag*", "memory suggest-*", "memory enrichments",
        "memory dependency-cycles",
    ),
    _SETTLED: (
        "memory merge", "memory compress", "memory normalize", "memory resolve-conflicts", "memory duplicates",
        "memory auto-dedup", "memory dedup-report", "memory cross-scope-duplicates", "memory consolidation-preview",
        "memory auto-summarize", "memory recalculate-importance",
    ),
    _REPORT: tuple(
        f"memory {name}"
        for name in (
            "status", "summary", "scopes", "compare-scopes", "scope-comparison", "health-comparison", "quality*",
            "freshness", "stale", "urgency", "priority-queue", "db-size", "schema-version", "*-recommendations",
            "optimize-hints", "analytics", "access-frequency", "age-distribution", "importance-histogram",
            "content-density", "type-*", "topic-groups", "clusters", "impact", "growth-rate", "capacity-forecast",
            "quota", "trend", "stats-delta", "feedback-analysis", "health", "dashboard", "api-status", "action-plan",
            "operator-report", "summary-report", "system-summary", "usage-report", "embedder-info",
        )
    ),
}  # fmt: skip

# What does it here -> a command and its options.
_OPTIONS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    _CHANNEL: (("start", ("--wechat-relogin",)),),
    _HOME: (
        ("start", ("-c", "--config")), ("stop", ("-c", "--config", "--port")), ("status", ("-c", "--config", "--port")),
        ("train-step", ("--port",)),
    ),
    "--limit for how many, --json for all that is known, and the history of this home alone": (
        ("skills log", ("--n", "--full", "--file")),
    ),
    _WHOSE: (("memory *", ("--scope",)),),
    "--kind, on `metaclaw memory list`": (("memory *", ("--type", "--per-type")),),
    "--json": (("memory *", ("--json-out",)),),
    "--data-dir": (("train-server", ("--checkpoint-dir",)),),
    "--sampler vllm or --sampler transformers": (("train-server", ("--inference-backend",)),),
    "METACLAW_LOG=json or text": (("train-server", ("--log-level",)),),
}  # fmt: skip


class OlderNames(TyperGroup):
    """A group that says of an older name what is here in its place."""

    def invoke(self, ctx: Any) -> Any:
        words = [*ctx._protected_args, *ctx.args] if hasattr(ctx, "_protected_args") else list(ctx.args)
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            if told := older_name(words, getattr(error, "option_name", None)):
                raise ConfigError(told) from None
            raise


def older_name(words: Sequence[str], option: str | None = None) -> str | None:
    """What to say of a command line that was refused, and of the option in it that nobody knew; ``None``: nothing."""
    command = _leading(words)
    if option is not None:
        there = next(
            (
                there
                for there, known in _OPTIONS.items()
                if any(fnmatchcase(command, pattern) and option in options for pattern, options in known)
            ),
            None,
        )
        return there and f"`metaclaw {command}` has no {option} here; for that: {there}"
    for there, patterns in _COMMANDS.items():
        if found := next((pattern for pattern in patterns if _fits(command, pattern)), None):
            name = " ".join(command.split()[: len(found.split())])
            return f"there is no `metaclaw {name}` here; for that: {there}"
    return None


def _leading(words: Sequence[str]) -> str:
    """The command: at most two words before the first option."""
    named = list[str]()
    for word in words[:2]:
        if word.startswith("-"):
            break
        named.append(word)
    return " ".join(named)


def _fits(command: str, pattern: str) -> bool:
    """Whether ``command`` is one that ``pattern`` means; what follows the name of a command is its arguments."""
    return fnmatchcase(" ".join(command.split()[: len(pattern.split())]), pattern)
