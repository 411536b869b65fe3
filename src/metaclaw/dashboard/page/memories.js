// What is remembered.

import { address, el, link, table } from "./dom.js";
import { decimal, moment } from "./format.js";

export const title = "Memories";

export async function show(get, parts) {
  const { agent, words } = parts;
  const units = await get("memories", { agent, words });
  return [
    el("h1", {}, "Memories"),
    el("form", { onsubmit: (event) => search(event) },
      el("input", { name: "words", value: words ?? "", placeholder: "what fits these words", "aria-label": "Words" }),
      el("input", { name: "agent", value: agent ?? "", placeholder: words ? "agent (main)" : "agent", "aria-label": "Agent" }),
      el("button", {}, "Show"),
    ),
    table(
      [
        ["said", (unit) => moment(unit.said_at), "nowrap"],
        ["whose", (unit) => (unit.scope === "agent" ? unit.agent : `${unit.agent}, ${unit.scope} ${unit[unit.scope]}`)],
        ["kind", (unit) => unit.standing ? `${unit.kind}, standing` : unit.kind],
        ["memory", (unit) => el("span", { class: unit.superseded_by ? "preview faint" : "preview" }, unit.text)],
        ["from", (unit) => (unit.turns.length ? link("turn", { id: unit.turns[0] }, unit.source) : unit.source)],
        [words ? "score" : "trust", (unit) => decimal(unit.score ?? unit.trust, 2), "number"],
      ],
      units,
      "Nothing is remembered that fits.",
    ),
  ];
}

function search(event) {
  event.preventDefault();
  location.hash = address("memories", Object.fromEntries(new FormData(event.target)));
}
