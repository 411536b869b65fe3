"""``metaclaw why``: what was before the model at a turn, who answered, how that was judged, and who taught of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from metaclaw.cli.plurals import counted

if TYPE_CHECKING:
    from metaclaw.journal.turn_explanation import Explanation

_NOTHING = 0.0005  # nats: what would be shown as 0
_LEFT_OUT = {
    "present": "there already",
    "number": "enough others of its kind",
    "budget": "no room in the budget",
    "threshold": "does not fit well enough",
}


def why(
    turn: Annotated[str, typer.Argument(help="A turn, as its answer's header X-MetaClaw-Turn has it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What was recalled for a turn and what was left out, who answered, how it was judged, and what teachers said."""
    from dataclasses import asdict

    from metaclaw.config_file import load_settings
    from metaclaw.journal.turn_explanation import explain
    from metaclaw.learner.gate.held_out import is_kept_back

    settings = load_settings()
    found = explain(settings.turns_db, settings.learning_db, turn)
    held_out = is_kept_back(found, settings.rl.gate.held_out_share)
    if not as_json:
        for line in _lines(found, held_out=held_out):
            typer.echo(line)
        return
    told = asdict(found)
    told["held_out"] = held_out
    del told["turn"]["head"]
    del told["turn"]["answer"]  # `metaclaw journal export` has what was said
    del told["turn"]["other_answers"]
    typer.echo(json.dumps(told))


def _lines(found: Explanation, *, held_out: bool) -> list[str]:
    turn = found.turn
    lines = [
        f"{turn.id}: {turn.kind} turn of agent {turn.agent}, session {turn.session}, {_moment(turn.opened_at)}",
        _answered(found, held_out=held_out),
    ]
    if turn.error:
        lines.append(f"error: {turn.error}")
    lines.append(_generation(found))
    lines += _recalled(found)
    lines.append(_judged(found, held_out=held_out))
    lines += _taught(found)
    for given in found.feedback:
        score = "" if given.score is None else f" {given.score:+g}"
        lines.append(f"feedback of {given.source}:{score} {given.text}".rstrip())
    return lines


def _answered(found: Explanation, *, held_out: bool) -> str:
    turn, policy = found.turn, found.policy
    if policy is None:
        return f"answered by {turn.upstream} (asked for {turn.model}): {turn.state}"
    sample = policy.untrainable or policy.state or ("held out" if held_out else "not judged yet")
    if policy.excluded_by is not None:
        sample += f" ({policy.excluded_by})"
    if policy.trained_in is not None:
        sample += f" (version {policy.trained_in} was trained on it)"
    reward = "" if policy.reward is None else f", reward {policy.reward:+.2f}"
    return f"answered by policy version {policy.version} ({policy.model}): {turn.state}; sample: {sample}{reward}"


def _generation(found: Explanation) -> str:
    since = "" if found.generation == found.generation_now else f" (it is {found.generation_now} now)"
    return f"generation of the agent's skills: {found.generation}{since}"


def _recalled(found: Explanation) -> list[str]:
    lines: list[str] = []
    told = {one.item if one.kind == "skill" else f"memory:{one.item}" for one in found.weighed}
    for one in found.weighed:
        if one.outcome == "recalled":
            fit = f"score {one.score:.2f}" if one.score else "which stands in every conversation"
            lines.append(f"recalled {one.kind} {one.item}, {fit}")
    lines += [f"recalled {name}" for name in found.recalled if name not in told]
    if not lines:
        lines.append("nothing was recalled")
    for one in found.weighed:
        if one.outcome != "recalled":
            lines.append(f"left out {one.kind} {one.item}, score {one.score:.2f}: {_LEFT_OUT[one.outcome]}")
    if found.weighed_in not in (None, found.turn.id):
        lines.append(f"(chosen at {found.weighed_in}, which brought the message)")
    return lines


def _judged(found: Explanation, *, held_out: bool) -> str:
    verdict = found.verdict
    if held_out:
        return "never judged nor trained on: new versions are examined on such prompts (rl.gate.held_out_share)"
    if verdict is None:
        return "not judged"
    if verdict.score is None:
        return f"judging failed {counted(verdict.attempts, 'time')} ({verdict.judge}): {json.dumps(verdict.detail)}"
    return f"judged {verdict.score:+.2f} by {verdict.judge}: {json.dumps(verdict.detail)}"


def _taught(found: Explanation) -> list[str]:
    lines: list[str] = []
    for one in found.lessons:
        thinks = "" if one.gap is None else f", on average {_likelier(one.gap)} to it"
        if one.version is not None:
            outcome = f"version {one.version}"
        else:
            outcome = f"update {one.update_id} was {one.state}, so nothing moved"
        moved = "" if one.change is None else f": there the answer is {_likelier(one.change)}, by all that was learned"
        lines.append(
            f"taught by {one.teacher} ({one.method}): {counted(one.num_tokens, 'token')}{thinks}; {outcome}{moved}"
        )
    return lines


def _likelier(change: float) -> str:
    if abs(change) < _NOTHING:
        return "as likely"
    return f"{abs(change):.3f} nats a token {'likelier' if change > 0 else 'less likely'}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
