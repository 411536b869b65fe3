// The skills there are, and what evolvers wrote.

import { el, table } from "./dom.js";
import { moment, number, signed } from "./format.js";

export const title = "Skills";

const STARTER = "_starter";
const OWNERS = { _shared: "everybody's", [STARTER]: "starter" };

export async function show(get) {
  const told = await get("skills");
  const used = new Map();
  for (const one of told.used) used.set(one.skill, [...(used.get(one.skill) ?? []), one]);
  return [
    el("h1", {}, "Skills"),
    table(
      [
        ["whose", (skill) => OWNERS[skill.owner] ?? skill.owner],
        ["name", (skill) => skill.name],
        ["for", (skill) => (skill.error ? el("span", { class: "bad" }, `broken: ${skill.error}`) : skill.description)],
        ["", (skill) => (skill.retired_for.length ? el("span", { class: "warn" }, `retired for ${skill.retired_for.join(", ")}`) : "")],
        ["recalled", (skill) => number((used.get(skill.name) ?? []).reduce((sum, one) => sum + one.num_recalled, 0)), "number"],
        ["mean score with, without", (skill) => (used.get(skill.name) ?? []).map((one) => compared(one)), "number"],
      ],
      [...told.skills].sort((one, other) => (one.owner === STARTER) - (other.owner === STARTER)),
      "There are no skills.",
    ),
    el("h2", {}, "Written from failures"),
    table(
      [
        ["when", (one) => moment(one.changed_at), "nowrap"],
        ["agent", (one) => one.agent],
        ["name", (one) => one.name],
        ["state", (one) => el("span", { class: { adopted: "good", rejected: "warn" }[one.state] }, one.state)],
        ["why", (one) => one.reason || one.why],
      ],
      told.candidates,
      "None was written yet.",
    ),
  ];
}

function compared(one) {
  return el("div", {}, `${one.agent}: ${signed(one.mean_with)} (${one.num_with}), ${signed(one.mean_without)} (${one.num_without})`);
}
