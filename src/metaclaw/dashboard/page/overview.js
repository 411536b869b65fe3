// The first page: what runs, what was recorded lately, how far each agent's learning is.

import { bars, scores } from "./charts.js";
import { el, link, table } from "./dom.js";
import { counted, moment, number, seconds, signed, usd } from "./format.js";

export const title = "Overview";
export const refreshEvery = 5000;

export async function show(get) {
  const told = await get("overview");
  return [
    el("h1", {}, "Overview"),
    ...told.troubles.map((text) => el("p", { class: "trouble" }, text)),
    running(told),
    training(told),
    ...models(told),
    el("h2", {}, `The last ${told.last_days.length} days`),
    charts(told),
    el("h2", {}, "Agents"),
    agents(told),
  ];
}

function running(told) {
  if (!told.instance) return el("p", { class: "warn" }, "MetaClaw is not running here: `metaclaw start` starts it.");
  const missing = Object.entries(told.instance.children).filter(([, pid]) => pid === null).map(([name]) => name);
  const since = `mode ${told.instance.mode}, since ${moment(told.instance.started_at)}`;
  const answers = told.health !== null;
  return el("div", {},
    el("p", {}, el("strong", { class: answers ? "good" : "bad" }, answers ? "answers" : "DOES NOT ANSWER"), ` on ${told.instance.url}, ${since}`),
    missing.length ? el("p", { class: "bad" }, `not running: ${missing.join(", ")}`) : null,
    recording(told.health ?? {}),
  );
}

function recording(health) {
  if (health.journal === "failing") {
    return el("p", { class: "trouble" }, `turns.db cannot be written; ${counted(health.spool_records ?? 0, "record")} wait in the spool`);
  }
  return health.records_lost ? el("p", { class: "trouble" }, `${counted(health.records_lost, "record")} lost since the start`) : null;
}

function training(told) {
  if (!told.training) return null;
  const { state, agent, why } = told.training;
  return el("p", {}, `training: ${state}${agent ? ` ${agent}` : ""}${why ? `: ${why}` : ""}`);
}

function models(told) {
  if (!told.upstreams.length) return [];
  return [
    el("h2", {}, "Models behind it"),
    table(
      [
        ["model", (one) => one.upstream],
        ["key", (one) => one.credential],
        ["", (one) => fares(one)],
        ["requests since the start", (one) => number(one.num_requests), "number"],
        ["failures", (one) => Object.entries(one.failures).map(([kind, count]) => `${kind} ${number(count)}`).join(", ")],
      ],
      told.upstreams,
      "",
    ),
  ];
}

function fares(one) {
  if (one.cooldown_left_s > 0) return el("span", { class: "bad" }, `left alone for ${seconds(one.cooldown_left_s)}`);
  if (one.state === "ready") return el("span", { class: "good" }, "ready");
  return el("span", { class: "warn" }, "tried again with the next turn");
}

function charts(told) {
  const days = told.last_days;
  const turns = byDay(told.days, "turns");
  const failed = byDay(told.days, "failed");
  const tokens = summed(told.days, (day) => day.prompt_tokens + day.completion_tokens);
  const cost = byDay(told.days, "cost_usd");
  const unpriced = sum(told.days.map((day) => day.unpriced));
  const judged = sum(told.scores.map((day) => day.judged));
  const mean = judged ? sum(told.scores.map((day) => day.judged * day.mean_score)) / judged : null;
  const weighed = new Map();
  for (const [day, total] of summed(told.scores, (one) => one.judged * one.mean_score)) {
    weighed.set(day, total / byDay(told.scores, "judged").get(day));
  }
  const costs = `${usd(sum([...cost.values()]))}${unpriced ? `, ${counted(unpriced, "turn")} without a price` : ""}`;
  return el("div", { class: "charts" },
    bars("Turns", `${number(sum([...turns.values()]))}, ${number(sum([...failed.values()]))} failed`, days, turns, failed,
      (value, bad) => `${counted(value, "turn")}, ${bad} failed`),
    bars("Tokens", number(sum([...tokens.values()])), days, tokens, new Map(), (value) => number(value)),
    bars("Cost", costs, days, cost, new Map(), (value) => usd(value)),
    scores("Mean score", judged ? `${signed(mean)} of ${number(judged)} judged` : "nothing judged", days, weighed),
  );
}

function agents(told) {
  const learning = new Map(told.learning.map((one) => [one.agent, one]));
  const names = new Set([...told.days.map((day) => day.agent), ...learning.keys(), ...Object.keys(told.modes).filter(Boolean)]);
  const rows = [...names].sort().map((name) => ({ name, learned: learning.get(name), days: told.days.filter((day) => day.agent === name) }));
  return table(
    [
      ["agent", (row) => link("turns", { agent: row.name }, row.name)],
      ["mode", (row) => told.modes[row.name] ?? told.modes[""]],
      ["turns", (row) => number(sum(row.days.map((day) => day.turns))), "number"],
      ["cost", (row) => usd(sum(row.days.map((day) => day.cost_usd))), "number"],
      ["serves", (row) => (row.learned?.serving ? link("policies", {}, `version ${row.learned.serving}`) : "the model itself")],
      ["judged", (row) => number(row.learned?.judged), "number"],
      ["wait to be learned from", (row) => number(row.learned?.pending), "number"],
      ["last update", (row) => lastUpdate(row.learned?.last_update)],
    ],
    rows,
    "No agent has asked anything yet.",
  );
}

function lastUpdate(update) {
  if (!update) return "–";
  const kind = { committed: "good", rejected: "warn", aborted: "bad" }[update.state];
  const what = `${update.state} ${moment(update.finished_at ?? update.started_at)}${update.reason ? `: ${update.reason}` : ""}`;
  return el("span", { class: kind }, what);
}

const byDay = (rows, name) => summed(rows, (row) => row[name]);

function summed(rows, value) {
  const sums = new Map();
  for (const row of rows) sums.set(row.day, (sums.get(row.day) ?? 0) + value(row));
  return sums;
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
