// One turn, with all that is known of it.

import { el, facts, link, table } from "./dom.js";
import { counted, decimal, moment, number, seconds, signed, usd } from "./format.js";

export const title = "Turn";

export async function show(get, parts) {
  const turn = await get(`turns/${encodeURIComponent(parts.id ?? "")}`);
  return [
    el("h1", {}, `Turn ${turn.id}`),
    course(turn),
    el("h2", {}, "How it was judged"),
    judged(turn),
    el("h2", {}, "What was recalled"),
    table(
      [
        ["kind", (one) => one.kind],
        ["", (one) => one.item],
        ["score", (one) => decimal(one.score, 2), "number"],
        ["", (one) => (one.outcome === "recalled" ? el("span", { class: "good" }, "recalled") : leftOut(one.outcome))],
      ],
      turn.weighed,
      turn.recalled.length ? `Recalled: ${turn.recalled.join(", ")}.` : "Nothing was.",
    ),
    el("h2", {}, "What was said"),
    hidden(turn),
    ...turn.messages.map(message),
    ...turn.answers.map(message),
    turn.error ? el("p", { class: "trouble" }, turn.error) : null,
  ];
}

function course(turn) {
  return facts([
    ["agent", link("turns", { agent: turn.agent }, turn.agent)],
    ["session", link("turns", { agent: turn.agent, session: turn.session }, turn.session)],
    ["asked", `${moment(turn.opened_at)}, a ${turn.kind} turn, ${turn.dialect}, for ${turn.model}`],
    ["by", [turn.user, turn.workspace, turn.access_key && `key ${turn.access_key}`].filter(Boolean).join(", ")],
    ["answered by", `${turn.upstream}${turn.policy ? `, version ${turn.policy.version}` : ""}`],
    ["ended", [turn.state, turn.status, turn.finish_reason].filter(Boolean).join(", ")],
    ["tried", turn.attempts.length > 1 ? turn.attempts.map((one) => `${one.upstream}: ${one.outcome ?? one.status ?? "?"}`).join("; ") : ""],
    ["took", `${seconds(turn.took_s)}; recall ${seconds(turn.recall_s)}, first byte after ${seconds(turn.first_byte_s)}`],
    ["tokens", `${number(turn.prompt_tokens)} read (${number(turn.cached_tokens)} from a cache), ${number(turn.completion_tokens)} written`],
    ["cost", usd(turn.cost_usd)],
    ["left out", turn.num_dropped ? `${counted(turn.num_dropped, "message")}, for the context limit` : ""],
  ]);
}

function judged(turn) {
  const { verdict, policy } = turn;
  const detail = Object.keys(verdict?.detail ?? {}).length ? JSON.stringify(verdict.detail) : "";
  const score = verdict?.score ?? null;
  const told = facts([
    ["score", verdict ? el("span", { class: score === null ? "bad" : score < 0 ? "warn" : "good" }, score === null ? "failed" : signed(score)) : ""],
    ["by", verdict ? `${verdict.judge}, ${moment(verdict.judged_at)}` : ""],
    ["it says", detail],
    ["sample", turn.held_out ? "held out: it is never judged nor trained on" : policy ? sample(policy) : ""],
    ["feedback", turn.feedback.map((one) => `${one.source}: ${one.score === null ? "" : signed(one.score)} ${one.text}`).join("; ")],
  ]);
  return told.childElementCount ? told : el("p", { class: "faint" }, "It was not.");
}

function sample(policy) {
  if (policy.untrainable) return `not learned from: ${policy.untrainable}`;
  if (policy.trained_in) return `version ${policy.trained_in} was trained on it, reward ${signed(policy.reward)}`;
  return [policy.state ?? "not judged yet", policy.excluded_by, policy.reward !== null && `reward ${signed(policy.reward)}`].filter(Boolean).join(", ");
}

function leftOut(outcome) {
  const why = {
    present: "there already", number: "enough others of its kind", budget: "no room in the budget",
    threshold: "does not fit well enough",
  };
  return el("span", { class: "faint" }, why[outcome] ?? outcome);
}

function hidden(turn) {
  const left = turn.num_messages - turn.messages.length;
  return left > 0 ? el("p", { class: "faint" }, `${counted(left, "earlier message")} not shown.`) : null;
}

function message(one) {
  return el("div", { class: "message" },
    el("span", { class: "role" }, one.role),
    one.thought ? el("details", {}, el("summary", { class: "role" }, "thought"), el("pre", {}, one.thought)) : null,
    one.text ? el("div", { class: "text" }, one.text) : null,
    one.calls.map((call) => el("pre", {}, call)),
  );
}
