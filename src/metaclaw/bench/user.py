"""What the benchmark's user says.

Owns the words around a dataset's own: the system prompt, how a choice is to be answered, and what is said to an answer;
refuses to know how it was graded. Invariant: what the user says of a piece of work is what the check found, with the
dataset's remark, which presumes one mistake and may be about another.
"""

from __future__ import annotations

from pathlib import Path

from metaclaw.bench.days import ChoiceRound, FileRound
from metaclaw.bench.grading import Grade

# OpenClaw's own files of an agent, in the order in which it shows them.
_IDENTITY = ("AGENTS.md", "SOUL.md", "TOOLS.md", "IDENTITY.md", "USER.md", "HEARTBEAT.md", "BOOTSTRAP.md", "MEMORY.md")
_WORK = "You work in a folder of the user's, by the tools that you have. Paths are relative to that folder."
_CHOOSE = r"End your answer with every option that is right, in this form: \bbox{A,C}"
_AGAIN = "Keep this in mind for what comes."
_NO_CHOICE = r"I could not read which options you chose: I need them in the form \bbox{A,C}."


def system_prompt(folder: Path) -> str:
    """What the agent is told of itself: OpenClaw's files of that name, as they lie in its folder in the morning."""
    files = (folder / name for name in _IDENTITY)
    told = [
        f"## {path.name}\n\n{path.read_text('utf-8', 'replace').strip()}"
        for path in files
        if path.is_file() and path.resolve().is_relative_to(folder.resolve())  # a link of the dataset's to elsewhere
    ]
    return "\n\n".join([_WORK, *told])


def question(asked: FileRound | ChoiceRound) -> str:
    """A round's question; with the options and how to name them, where the dataset's own words leave that out."""
    if isinstance(asked, FileRound):
        return asked.question
    parts = [asked.question]
    if not all(text in asked.question for text in asked.eval.options.values()):
        parts.append("\n".join(f"{key}. {text}" for key, text in asked.eval.options.items()))
    if "bbox" not in asked.question and "boxed" not in asked.question:
        parts.append(_CHOOSE)
    return "\n\n".join(parts)


def with_remark(remark: str, said: str) -> str:
    """A question that begins with what is said to the answer before it."""
    return f"{remark}\n\n{said}" if remark else said


def remark_on(asked: FileRound | ChoiceRound, grade: Grade) -> str:
    """What the user says to an answer; nothing where nobody could grade it."""
    if grade.score is None:
        return ""
    if grade.is_right:
        return asked.feedback.correct
    if isinstance(asked, FileRound):
        found = [f"The check says: {grade.said}"] if grade.said else []
        return "\n".join([*filter(None, [asked.feedback.incorrect]), *found, _AGAIN])
    if grade.chosen is None:
        return _NO_CHOICE
    missed = [f"{key} is right too. {asked.feedback.options.get(key, '')}" for key in asked.eval.answer - grade.chosen]
    wrong = [f"{key} is wrong. {asked.feedback.options.get(key, '')}" for key in grade.chosen - asked.eval.answer]
    general = [] if asked.feedback.options else [asked.feedback.incorrect]
    return "\n".join(one.strip() for one in [*general, *sorted(missed), *sorted(wrong), _AGAIN] if one)
