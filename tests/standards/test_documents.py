"""What the documents tell a user to type exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
import typer.main

from metaclaw.cli.main import app
from metaclaw.skills.skill import parse_skill

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def commands(document: Path) -> list[str]:
    """Every line behind a `$` in the console blocks of a document."""
    blocks = BLOCK.findall(document.read_text(encoding="utf-8"))
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    typed = [line.removeprefix("$ ").split("  #")[0] for line in lines if line.startswith("$ ")]
    return [part for line in typed for part in re.split(r"&&|\$\((?=metaclaw)", line)]


SHOWN = [(document.name, command.strip()) for document in DOCUMENTS for command in commands(document)]


def test_there_is_something_to_check():
    assert any(command.startswith("metaclaw setup") for _, command in SHOWN)
    assert any(command.startswith("make demo") for _, command in SHOWN)


@pytest.mark.parametrize(("document", "command"), SHOWN)
def test_a_command_in_the_documents_exists(document: str, command: str):
    words = [word.rstrip(")") for word in shlex.split(command.replace(")", " "), comments=True)]
    if "make" in words[:1]:
        assert {word for word in words[1:] if not re.match(r"[A-Z_]+=|-", word)} <= TARGETS
    elif words[:1] == ["metaclaw"]:
        _check_metaclaw(words[1:])
    elif words[:2] == ["pip", "install"]:
        extras = re.findall(r"\[(.*?)\]", command)
        assert {name for group in extras for name in group.split(",")} <= PROJECT["optional-dependencies"].keys()


def _check_metaclaw(words: list[str]) -> None:
    command: click.Command = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, *words = words
        assert name in command.commands, f"there is no `metaclaw {name}`"  # pyright: ignore
        command = command.commands[name]  # pyright: ignore
    known = {"--help", *(option for parameter in command.params for option in parameter.opts)}
    assert {word.split("=")[0] for word in words if word.startswith("-") and word != "-"} <= known


def test_the_example_of_a_skill_is_one():
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```markdown\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [parse_skill(example, Path("git-bisect/SKILL.md")).name for example in examples] == ["git-bisect"]


def test_links_between_the_documents_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"
