"""What an evolver proposes, and what becomes of it.

Owns the form of an answer and its checks; refuses to know models and files. Invariant: a draft has a name that the
Agent Skills standard allows (so it is no path), says which failures it is for, and is a new skill or exact edits of one
that may be edited; whatever is not like that is refused with the reason, and the rest is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from metaclaw.chat.messages import JsonObject
from metaclaw.chat.token_estimate import estimate_tokens
from metaclaw.errors import EvolverError, SkillError
from metaclaw.skills.evolution.deltas import Edit, apply_edits
from metaclaw.skills.skill import Skill, is_skill_name

MAX_TOKENS = 600  # of a body: it is read at every turn that it is recalled for
_MAX_DESCRIPTION = 400
_OUR_MARKS = ("<metaclaw-", "</metaclaw-", "\n---\n")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _ProposedEdit(_Strict):
    find: str
    text: str


class _Proposal(_Strict):
    action: Literal["create", "edit"]
    name: str
    description: str
    body: str
    edits: list[_ProposedEdit]
    failures: list[int]
    why: str


class _Answer(_Strict):
    skills: list[_Proposal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A skill as it would be; ``base`` is the skill that it changes. ``failures`` are their numbers, from 1."""

    skill: Skill
    base: Skill | None
    failures: tuple[int, ...]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """The drafts of one answer, and what was refused of it, a sentence each."""

    drafts: tuple[Draft, ...]
    refused: tuple[str, ...]


def answer_schema() -> JsonObject:
    """The JSON schema of an answer, in the subset that OpenAI's strict mode takes: every key required, no others."""
    text: JsonObject = {"type": "string"}
    edit = _object({"find": text, "text": text})
    proposal = _object(
        {
            "action": {"type": "string", "enum": ["create", "edit"]},
            "name": text,
            "description": text,
            "body": text,
            "edits": {"type": "array", "items": edit},
            "failures": {"type": "array", "items": {"type": "integer"}},
            "why": text,
        }
    )
    return _object({"skills": {"type": "array", "items": proposal}})


def read_answer(
    text: str, *, editable: Mapping[str, Skill], taken: Sequence[str], num_failures: int, max_new: int
) -> Proposed:
    """The drafts in an answer. ``editable`` may be edited, names in ``taken`` are in use and may not.

    Raises ``EvolverError`` when the answer as a whole is not of the form that was asked for.
    """
    try:
        answer = _Answer.model_validate_json(_bare(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the answer"
        raise EvolverError(
            f"the evolver's answer is not of the form that was asked for: {place}: {first['msg']}"
        ) from None
    drafts, refused = list[Draft](), list[str]()
    for proposal in answer.skills:
        try:
            draft = _draft(proposal, editable, taken, num_failures)
            if len(drafts) >= max_new:
                raise SkillError(f"more than {max_new} were proposed")
            if any(draft.skill.name == other.skill.name for other in drafts):
                raise SkillError("it was proposed twice")
        except SkillError as error:
            refused.append(f"{proposal.name!r:.80}: {error}")
        else:
            drafts.append(draft)
    return Proposed(drafts=tuple(drafts), refused=tuple(refused))


def _draft(proposal: _Proposal, editable: Mapping[str, Skill], taken: Sequence[str], num_failures: int) -> Draft:
    name = proposal.name
    if not is_skill_name(name):
        raise SkillError("a name is 1-64 of a-z, 0-9 and single hyphens")
    failures = tuple(sorted(set(proposal.failures)))
    if not failures or failures[0] < 1 or failures[-1] > num_failures:
        raise SkillError(f"it must name the failures that it is for, from 1 to {num_failures}")
    if proposal.action == "edit":
        skill, base = _edited(proposal, editable), editable[name]
    else:
        skill, base = _created(proposal, editable, taken), None
    _check(skill)
    return Draft(skill=skill, base=base, failures=failures, why=" ".join(proposal.why.split())[:400])


def _edited(proposal: _Proposal, editable: Mapping[str, Skill]) -> Skill:
    base = editable.get(proposal.name)
    if base is None:
        raise SkillError("there is no such skill that may be edited")
    if proposal.body:
        raise SkillError("an edit has no body; it changes the skill by edits")
    body = apply_edits(base.body, [Edit(find=edit.find, text=edit.text) for edit in proposal.edits])
    return Skill(name=base.name, description=_one_line(proposal.description) or base.description, body=body.strip())


def _created(proposal: _Proposal, editable: Mapping[str, Skill], taken: Sequence[str]) -> Skill:
    if proposal.name in editable or proposal.name in taken:
        raise SkillError("a skill of this name exists; edit it, or choose another name")
    if proposal.edits:
        raise SkillError("a new skill has a body, not edits")
    return Skill(name=proposal.name, description=_one_line(proposal.description), body=proposal.body.strip())


def _check(skill: Skill) -> None:
    if not 1 <= len(skill.description) <= _MAX_DESCRIPTION:
        raise SkillError(
            f"its description has {len(skill.description)} characters; say in 1 to {_MAX_DESCRIPTION} when to use it"
        )
    if not skill.body:
        raise SkillError("its body is empty")
    num_tokens = estimate_tokens(skill.body)
    if num_tokens > MAX_TOKENS:
        raise SkillError(
            f"its body has about {num_tokens} tokens; at most {MAX_TOKENS} are worth reading at every turn"
        )
    text = f"{skill.description}\n{skill.body}\n"
    if any(mark in text for mark in _OUR_MARKS) or any(_is_unprintable(char) for char in text):
        raise SkillError("it holds marks or characters that do not belong into a skill")


def _is_unprintable(char: str) -> bool:
    return not char.isprintable() and char not in "\n\t"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _bare(text: str) -> str:
    """``text`` without a Markdown fence around all of it, which models add that know no structured output."""
    stripped = text.strip()
    if not (stripped.startswith("```") and stripped.endswith("```")):
        return stripped
    first, _, rest = stripped.removesuffix("```").partition("\n")
    return rest.strip() if first in ("```", "```json") else stripped


def _object(properties: JsonObject) -> JsonObject:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def schema_text() -> str:
    """The schema as it is shown to models that take no schema."""
    return json.dumps(answer_schema())
