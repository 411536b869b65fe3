"""One block within one budget.

Owns which candidates go into a block, and the text of it; refuses to know where they come from and what a request is.
Invariant: a block never takes more than its budget, every candidate is accounted for, and equal input gives equal text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from metaclaw.journal.turns import Outcome, RecallBlock, Weighed
from metaclaw.recall.candidates import Candidate
from metaclaw.recall.sizes import ESTIMATED, Sizes

BEGIN = (
    "<metaclaw-recall>\n"
    "MetaClaw recalled this for the message above; the user did not write it. Use what fits, ignore the rest.\n"
)
END = "</metaclaw-recall>"
_MAX_TOLD = 12  # of each kind, of what was left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """``max_tokens`` bounds one block.

    Of it skills have ``skills_share`` first and memories the rest; what the one kind leaves the other may use.
    ``max_standing`` bounds what stands in a whole conversation, beside ``max_memories``.
    """

    max_tokens: int
    max_skills: int
    max_memories: int
    max_standing: int = 0
    skills_share: float = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """A block, and what became of each candidate."""

    block: RecallBlock
    weighed: tuple[Weighed, ...] = ()


NOTHING = Composed(block=RecallBlock(text=""))


def compose(
    skills: Sequence[Candidate],
    memories: Sequence[Candidate],
    *,
    present: Collection[str],
    budget: Budget,
    sizes: Sizes = ESTIMATED,
) -> Composed:
    """A block of the best of ``skills`` and ``memories`` that are not ``present`` yet."""
    room = budget.max_tokens - sizes.of_block([BEGIN, END])
    verdicts: dict[str, Outcome] = {}
    of_skills = _eligible(skills, present, budget.max_skills, verdicts)
    standing = [one for one in memories if one.is_standing and not one.is_fitting]
    fitting = [one for one in memories if one not in standing]
    of_memories = _eligible(fitting, present, budget.max_memories, verdicts)
    told_before = sum(one.name in present for one in standing)
    of_memories += _eligible(standing, present, budget.max_standing - told_before, verdicts)
    left = room
    for candidates, share in ((of_skills, budget.skills_share), (of_memories, 1 - budget.skills_share)):
        left -= _take(candidates, min(left, int(room * share)), verdicts, sizes)
    for candidates in (of_skills, of_memories):
        left -= _take(candidates, left, verdicts, sizes)
    chosen = [one for one in (*of_skills, *of_memories) if verdicts.get(one.name) == "recalled"]
    while chosen and sizes.of_block([BEGIN, *(one.section for one in chosen), END]) > budget.max_tokens:
        verdicts[chosen.pop().name] = "budget"
    return Composed(block=_block(chosen), weighed=(*_weighed(skills, verdicts), *_weighed(memories, verdicts)))


def _eligible(
    candidates: Iterable[Candidate], present: Collection[str], number: int, verdicts: dict[str, Outcome]
) -> list[Candidate]:
    eligible: list[Candidate] = []
    for one in candidates:
        if not (one.is_fitting or one.is_standing):
            verdicts[one.name] = "threshold"
        elif one.name in present or one.alias in present:
            verdicts[one.name] = "present"
        elif len(eligible) >= number:
            verdicts[one.name] = "number"
        else:
            eligible.append(one)
    return eligible


def _take(candidates: Iterable[Candidate], room: int, verdicts: dict[str, Outcome], sizes: Sizes) -> int:
    used = 0
    for one in candidates:
        if verdicts.get(one.name) == "recalled":
            continue
        num_tokens = sizes.of(one.section)
        fits = used + num_tokens <= room
        verdicts[one.name] = "recalled" if fits else "budget"
        used += num_tokens if fits else 0
    return used


def _block(chosen: Sequence[Candidate]) -> RecallBlock:
    if not chosen:
        return RecallBlock(text="")
    spans: list[tuple[int, int]] = []
    end = len(BEGIN)
    for one in chosen:
        spans.append((end, end + len(one.section)))
        end += len(one.section)
    text = BEGIN + "".join(one.section for one in chosen) + END
    return RecallBlock(text=text, items=tuple(one.name for one in chosen), spans=tuple(spans))


def _weighed(candidates: Sequence[Candidate], verdicts: dict[str, Outcome]) -> list[Weighed]:
    recalled = [one for one in candidates if verdicts[one.name] == "recalled"]
    # What stands and is there already, or beyond the number, would be told of at every turn.
    unsaid = {one.name for one in candidates if one.is_standing and verdicts[one.name] in ("present", "number")}
    left = [one for one in candidates if verdicts[one.name] != "recalled" and one.name not in unsaid]
    told = recalled + left[:_MAX_TOLD]
    return [Weighed(kind=one.kind, item=one.item, score=one.score, outcome=verdicts[one.name]) for one in told]
