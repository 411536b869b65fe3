"""Whoever types a command of the older MetaClaw is told what does it here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from metaclaw.cli.main import app
from metaclaw.cli.older_names import older_name
from tests.cli.programs import metaclaw

# SPEC A1: what `metaclaw memory` had.
MEMORY: list[str] = re.findall(
    r"\S+",
    """
status summary inventory sample scopes search-advanced search-context search-grouped search-regex similar batch-get
history version-tree lifecycle diff events audit-trail merge tag find-tag annotate annotations bookmark bookmarks link
links watch unwatch watchers share compress normalize resolve-conflicts bulk-pin batch-archive cascade-archive re-embed
migrate-scope merge-scope clone-scope archive-scope compare-scopes scope-comparison health-comparison
cross-scope-duplicates grant-access revoke-access scope-grants ttl type-ttl auto-ttl expire expiry-forecast
typed-retention retention-analysis export-json export-csv export-yaml export-training import-json snapshot restore
snapshot-compare duplicates auto-dedup dedup-report quality quality-gate freshness stale urgency priority-queue gc
cleanup-orphans maintenance consolidation-preview validate db-size schema-version rebalance recalculate-importance
auto-summarize auto-tags auto-tag-types suggest-links suggest-types enrichments archive-recommendations
maintenance-recommendations optimize-hints analytics access-frequency age-distribution importance-histogram
content-density type-balance type-overlap topic-groups clusters link-graph link-stats dependency-cycles impact
growth-rate capacity-forecast quota trend stats-delta feedback-analysis health health-check diagnose dashboard
api-status action-plan operator-report summary-report system-summary usage-report embedder-info generate-candidates
evaluate-candidates replay-report promote-candidate approve-candidate reject-candidate review-queue review-history
auto-upgrade rollback upgrade-history cycle-history health-history alerts candidates-status cleanup-artifacts
""",
)


def ours() -> set[str]:
    return {" ".join(path) for path in _leaves(get_command(app), ())}


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    commands: dict[str, Any] = getattr(command, "commands", {})
    if not commands:
        yield path
    for name, inner in commands.items():
        yield from _leaves(inner, (*path, name))


@pytest.mark.parametrize(
    "command",
    [*(f"memory {name}" for name in MEMORY), "auth paste-token", "auth paste-key", "auth status", "auth remove",
     "wechat-bridge", "wechat-relogin", "wechat-check"],
)  # fmt: skip
def test_every_command_that_is_gone_says_what_is_there(command: str):
    told = older_name(command.split())
    assert told is not None
    assert told.startswith(f"there is no `metaclaw {command}` here")
    for name in re.findall(r"`metaclaw ([a-z]+(?: [a-z-]+)?)", told.partition("for that:")[2]):
        assert any(f"{known} ".startswith(f"{name} ") or name.startswith(f"{known} ") for known in ours()), name


def test_no_command_of_ours_is_taken_for_an_older_one():
    assert {command: told for command in ours() if (told := older_name(command.split()))} == {}


@pytest.mark.parametrize(
    ("line", "there"),
    [
        ("auth paste-token --provider anthropic", "metaclaw config llm.oauth_token -"),
        ("memory summary --per-type", "metaclaw memory report"),
        ("memory search tabs --scope default", "--user, --workspace or --session"),
        ("start -c config.yaml", "METACLAW_HOME=FOLDER"),
        ("stop --port 30000", "METACLAW_HOME=FOLDER"),
        ("skills log --n 5", "--limit"),
        ("train-server --checkpoint-dir x", "--data-dir"),
        ("start --wechat-relogin", "openclaw channels login"),
    ],
)
def test_it_is_one_line_with_the_exit_code_of_usage(tmp_path: Path, line: str, there: str):
    done = metaclaw(tmp_path, *line.split())
    assert done.returncode == 2
    (told,) = done.stderr.splitlines()
    assert there in told


def test_any_other_slip_is_told_as_before(tmp_path: Path):
    done = metaclaw(tmp_path, "memory", "lst")
    assert done.returncode == 2
    assert "No such command 'lst'" in done.stderr
    assert "Missing argument" in metaclaw(tmp_path, "memory", "show").stderr
