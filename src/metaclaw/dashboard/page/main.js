// Which page is shown, where its facts come from, and what is said when they do not come.

import { el, link } from "./dom.js";
import * as memories from "./memories.js";
import * as overview from "./overview.js";
import * as policies from "./policies.js";
import * as skills from "./skills.js";
import * as turn from "./turn.js";
import * as turns from "./turns.js";

const PAGES = { "": overview, turns, turn, policies, skills, memories };
const IN_MENU = ["", "turns", "policies", "skills", "memories"];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const state = document.getElementById("state");
let shown = 0; // counts up: what comes late, of a page that was left, is not shown
let timer;
let isRefreshed = false; // what is not keeps what was typed or opened in it, also while another tab is looked at

async function get(path, parts = {}) {
  const told = Object.entries(parts).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(told).toString();
  const answer = await fetch(`/api/${path}${query ? `?${query}` : ""}`);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error?.message ?? `HTTP ${answer.status}`);
  return body;
}

async function show() {
  const number = ++shown;
  clearTimeout(timer);
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
  const page = PAGES[name];
  isRefreshed = Boolean(page?.refreshEvery);
  drawMenu(name);
  document.title = `${page?.title ?? "Not found"} – MetaClaw`;
  try {
    const content = page ? await page.show(get, Object.fromEntries(new URLSearchParams(query))) : notFound();
    if (number !== shown) return;
    main.replaceChildren(...content.filter(Boolean));
    state.textContent = "";
  } catch (error) {
    if (number !== shown) return;
    const text = error instanceof TypeError ? "the dashboard has ended: run `metaclaw dashboard` again" : error.message;
    if (page?.refreshEvery && main.childElementCount > 1) state.textContent = text; // what was read before stays
    else main.replaceChildren(el("p", { class: "trouble" }, text));
  }
  if (page?.refreshEvery) timer = setTimeout(() => (document.hidden ? undefined : show()), page.refreshEvery);
}

function drawMenu(current) {
  const entries = IN_MENU.map((name) => {
    const entry = link(name, {}, PAGES[name].title);
    if (name === current) entry.setAttribute("aria-current", "page");
    return entry;
  });
  nav.replaceChildren(...entries);
}

function notFound() {
  return [el("p", { class: "trouble" }, "There is no such page.")];
}

addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => (document.hidden || !isRefreshed ? undefined : show()));
show();
