// The turns, the newest first.

import { address, el, link, table } from "./dom.js";
import { moment, number, seconds, usd } from "./format.js";

export const title = "Turns";

export async function show(get, parts) {
  const { agent, session, before } = parts;
  const told = await get("turns", { agent, session, before });
  return [
    el("h1", {}, "Turns"),
    el("form", { onsubmit: (event) => search(event) },
      el("input", { name: "agent", value: agent ?? "", placeholder: "agent", "aria-label": "Agent" }),
      el("input", { name: "session", value: session ?? "", placeholder: "session", "aria-label": "Session" }),
      el("button", {}, "Show"),
    ),
    table(
      [
        ["when", (turn) => link("turn", { id: turn.id }, moment(turn.opened_at)), "nowrap"],
        ["agent", (turn) => link("turns", { agent: turn.agent }, turn.agent)],
        ["session", (turn) => link("turns", { agent: turn.agent, session: turn.session }, shortened(turn.session))],
        ["asked", (turn) => el("span", { class: turn.kind === "side" ? "preview faint" : "preview" }, turn.human || "–")],
        ["answered by", (turn) => turn.upstream],
        ["", (turn) => ended(turn)],
        ["tokens", (turn) => `${number(turn.prompt_tokens)} → ${number(turn.completion_tokens)}`, "number"],
        ["cost", (turn) => usd(turn.cost_usd), "number"],
        ["took", (turn) => seconds(turn.took_s), "number"],
      ],
      told.turns,
      "No turn was recorded.",
    ),
    told.next ? el("p", {}, link("turns", { agent, session, before: told.next }, "older")) : null,
  ];
}

/** How a turn ended, where that is worth a word. */
export function ended(turn) {
  if (turn.state === "done") return turn.kind === "side" ? el("span", { class: "faint" }, "side") : "";
  const kind = turn.state === "open" ? "faint" : turn.state === "cut" ? "warn" : "bad";
  return el("span", { class: kind, title: turn.error ?? "" }, turn.status ? `${turn.state} ${turn.status}` : turn.state);
}

function search(event) {
  event.preventDefault();
  location.hash = address("turns", Object.fromEntries(new FormData(event.target)));
}

function shortened(text) {
  return text.length > 24 ? `${text.slice(0, 23)}…` : text;
}
