// Each agent's policy: its versions, and what served since when.

import { el, facts, table } from "./dom.js";
import { decimal, moment, number, signed } from "./format.js";

export const title = "Policies";

const GATE = { kl: "KL", nll_rise: "NLL", entropy_fall: "entropy", length_ratio: "length" };

export async function show(get) {
  const policies = await get("policies");
  if (!policies.length) {
    return [el("h1", {}, "Policies"), el("p", { class: "faint" }, "No policy was trained yet: the model itself answers.")];
  }
  return [el("h1", {}, "Policies"), ...policies.flatMap(one)];
}

function one(policy) {
  const serving = policy.serving ? `version ${policy.serving}` : "the model itself";
  return [
    el("h2", {}, policy.agent),
    facts([
      ["serves", serving],
      ["held", policy.holds.map((hold) => `${hold.kind}: ${hold.reason}${hold.until ? `, until ${moment(hold.until)}` : ""}`).join("; ")],
    ]),
    table(
      [
        ["version", (version) => `${version.version}${version.is_serving ? " (serves)" : ""}`],
        ["made", (version) => moment(version.created_at), "nowrap"],
        ["from", (version) => (version.parent === null ? "–" : number(version.parent)), "number"],
        ["mean reward", (version) => signed(version.mean_reward), "number"],
        ["of exchanges", (version) => number(version.num_rewards), "number"],
        ["tried on", (version) => (version.canary_share ? `${Math.round(version.canary_share * 100)} % of new sessions` : "")],
        ["the gate saw", (version) => gate(version.metrics)],
        ["weights", (version) => (version.version === 0 ? "–" : version.has_weights ? "kept" : el("span", { class: "faint" }, "deleted"))],
      ],
      [...policy.versions].reverse(),
      "No version was made.",
    ),
    policy.refused.length ? el("p", { class: "faint" }, "Refused") : null,
    policy.refused.length
      ? table(
          [
            ["when", (update) => moment(update.finished_at), "nowrap"],
            ["why", (update) => update.reason ?? "–"],
          ],
          policy.refused,
          "",
        )
      : null,
  ];
}

function gate(metrics) {
  const seen = Object.entries(GATE).filter(([name]) => typeof metrics[`gate/${name}`] === "number");
  return seen.map(([name, label]) => `${label} ${decimal(metrics[`gate/${name}`])}`).join(", ") || "–";
}
