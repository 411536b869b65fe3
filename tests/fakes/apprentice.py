"""A model that works in Ines Marlow's bakery (`benchmarks/days`): able, and as good as what it has been told.

It does every piece of work of the dataset, in the way in which a stranger would. What the user likes it does when it
finds that in its messages: said in this conversation, or recalled into it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.fakes.llm import Answer

Json = dict[str, Any]

_FILE = re.compile(r"day0\d/[a-z]+\.(?:md|json)")
_NOTES = {
    "day01/meeting.md": ("2026-03-02", "draft", "Tom clears the back room, Ayse asks the mill. Electrician: open."),
    "day01/call.md": ("2026-03-02", "draft", "The rye comes on Wednesday; the mill wants its pallets."),
    "day02/walk.md": ("2026-03-03", "draft", "The gutter is mended by the 20th, the lease goes on."),
    "day02/tasting.md": ("2026-03-03", "final", "Seeded rye too salty, plum cake right, spelt rolls shorter."),
    "day03/money.md": ("2026-03-04", "draft", "Bread, cake and coffee came in; the mill is to be paid."),
    "day04/tom.md": ("2026-03-05", "final", "80 rolls, 12 loaves, the cake for Brandt by the 14th."),
    "day06/today.md": ("2026-03-07", "draft", "Ines sells; the electrician and the pallets were paid."),
}
_AMOUNTS = {
    "day03/invoices.json": {"Mill at the weir": 41250, "Holm dairy": 9805, "North eggs": 3700},
    "day03/till.json": {"bread": 61040, "cake": 24590, "coffee": 8800},
    "day04/orders.json": {"School kitchen": 4400, "Cafe Orla": 5760, "Wedding Brandt": 31000},
    "day06/costs.json": {"Electrician": 18500, "Pallets": 2450, "Yeast": 1620},
}
_CHANGES = {
    "day05/prices.json": "s/390/420/",
    "day05/opening.md": "s/to 13/to 14/; s/2026-01-05/2026-03-06/",
    "day06/rota.md": "s/Ayse sells/Ines sells/; s/draft/final/; s/2026-03-02/2026-03-07/",
}
_CHOICES = {
    "do the two notes of today say": "A,C,E",
    "has the landlord promised": "B,C",
    "are true of what came in": "A,C",
    "come to more than 50 EUR": "B,C",
    "do we now have, as of today": "A,C",
    "to do unasked": "A,C,D",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Apprentice:
    """``knows_all`` is one who has been there for years; ``is_idle`` one who names every option and does nothing."""

    knows_all: bool = False
    is_idle: bool = False

    def __call__(self, body: Json) -> Answer:
        last = body["messages"][-1]
        if last["role"] == "tool":
            return Answer(text="It is done.")
        asked = _text(last["content"]).partition("<metaclaw-recall>")[0]
        if self.is_idle:
            return Answer(text=r"\bbox{A,B,C,D,E}")
        for words, choice in _CHOICES.items():
            if words in asked:
                return Answer(text=rf"I think it is \bbox{{{choice}}}")
        if not body.get("tools"):
            return Answer(text="I will.")
        told = json.dumps(body["messages"])
        return _calling(self._work(asked, told))

    def _work(self, asked: str, told: str) -> str:
        # The last, since what was said to the answer before stands first.
        path = next(name for name in reversed(_FILE.findall(asked)) if name in _NOTES | _AMOUNTS | _CHANGES)
        if path in _NOTES:
            date, status, words = _NOTES[path]
            front = f"---\ndate: {date}\nstatus: {status}\n---\n\n" if self._knows("front matter", told) else ""
            return _written(path, f"{front}{words}")
        if path in _AMOUNTS:
            in_cents = self._knows("amount_cents", told)
            entries = [{"name": name, **_amount(cents, in_cents)} for name, cents in _AMOUNTS[path].items()]
            return _written(path, json.dumps(entries))
        kept = f"cp {path} {path}.orig && " if self._knows(".orig", told) else ""
        return f"{kept}sed -i '{_CHANGES[path]}' {path}"

    def _knows(self, word: str, told: str) -> bool:
        return self.knows_all or word in told


def _amount(cents: int, in_cents: bool) -> Json:
    return {"amount_cents": cents, "currency": "EUR"} if in_cents else {"amount": cents / 100}


def _written(path: str, text: str) -> str:
    return f"cat > {path} <<'END'\n{text}\nEND"


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def _calling(command: str) -> Answer:
    function = {"name": "run_command", "arguments": json.dumps({"command": command})}
    call = {"id": "call-1", "type": "function", "function": function}
    return Answer(message={"role": "assistant", "content": None, "tool_calls": [call]}, finish_reason="tool_calls")
