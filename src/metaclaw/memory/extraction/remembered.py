"""Findings as units of memory.

Owns whose a finding is and how far it is believed; refuses to know how it was found. Invariant: what is known to be one
user's is never written where another may read it, and every unit names the turns that it is from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from metaclaw.memory.extraction.findings import Finding, Found, Material, Source
from metaclaw.memory.extraction.whose_wish import is_anothers, is_impersonal, may_stand
from metaclaw.memory.secrets import holds_secret
from metaclaw.memory.store import Extraction
from metaclaw.memory.units import Kind, MemoryUnit, Scope

# A person knows best what they want, a web page may say anything, and what came of a task is a guess at why.
TRUST: dict[Source, float] = {"user": 0.9, "tool": 0.5, "outcome": 0.4}
_OF_THE_WORK: tuple[Kind, ...] = ("project_state", "procedural")


def extraction_of(
    material: Material, found: Found, *, summary: Sequence[str] = (), now: float, new_id: Callable[[], str]
) -> Extraction:
    """What is stored of an exchange. ``summary`` is what the user last asked in the session, ``()`` for none."""
    dropped = Counter(found.dropped)
    findings = list(found.findings)
    if summary:
        text = "In this session the user said: " + " | ".join(summary)
        findings.append(Finding(kind="working_summary", text=text, evidence=text, subject="working summary"))
    units: list[MemoryUnit] = []
    for finding in findings:
        if holds_secret(finding.text):
            dropped["secret"] += 1
        elif _is_an_order(finding) and is_anothers(finding.evidence, material.said):
            dropped["anothers"] += 1
        else:
            units.append(_unit(material, finding, now=now, new_id=new_id))
    return Extraction(
        exchange=material.exchange,
        agent=material.agent,
        session=material.session,
        turns=material.turns,
        units=tuple(units),
        detail=dict(dropped),
    )


def _is_an_order(finding: Finding) -> bool:
    if finding.kind != "preference" or finding.source != "user":
        return False
    return finding.is_standing or is_impersonal(finding.evidence)


def _unit(material: Material, finding: Finding, *, now: float, new_id: Callable[[], str]) -> MemoryUnit:
    scope = _scope(material, finding.kind)
    owner: dict[str, Any] = {} if scope == "agent" else {scope: getattr(material, scope)}
    return MemoryUnit(
        id=new_id(),
        kind=finding.kind,
        text=finding.text,
        agent=material.agent,
        scope=scope,
        **owner,
        said_at=material.said_at,
        created_at=now,
        turns=material.turns,
        source=finding.source,
        trust=TRUST[finding.source],
        confidence=finding.confidence,
        true_from=finding.true_from,
        true_until=finding.true_until,
        subject=finding.subject,
        standing=finding.is_standing and finding.source == "user" and may_stand(finding.evidence, material.said),
    )


def _scope(material: Material, kind: Kind) -> Scope:
    if kind == "working_summary" or material.scope == "session":
        return "session"
    if material.scope == "agent":
        return "agent"
    if material.workspace and (material.scope == "workspace" or (material.scope is None and kind in _OF_THE_WORK)):
        return "workspace"
    return "user" if material.user else "agent"
