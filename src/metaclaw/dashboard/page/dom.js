// What the page is made of. Whatever is shown was written by models and strangers: it only ever becomes text.

/** An element with attributes and children; a child is a node, a text, or nothing. */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same, of a drawing. */
export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(whole(child));
  }
  return node;
}

/** Half a character, as programs that cut texts send, as the sign for one that is not known. */
function whole(child) {
  return typeof child === "string" && child.toWellFormed ? child.toWellFormed() : child;
}

/**
 * A table. `columns` are [heading, what to show of a row, class]; without rows, `empty` says why.
 */
export function table(columns, rows, empty) {
  if (!rows.length) return el("p", { class: "faint" }, empty);
  const head = columns.map(([heading, , kind]) => el("th", { class: kind, scope: "col" }, heading));
  const body = rows.map((row) => el("tr", {}, columns.map(([, shown, kind]) => el("td", { class: kind }, shown(row)))));
  return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
}

/** Names and values below each other, without those that say nothing. */
export function facts(pairs) {
  const told = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", {}, told.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/** An address within the page; parts of it that are not given are left out. */
export function address(page, parts = {}) {
  const told = Object.entries(parts).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(told).toString();
  return `#/${page}${query ? `?${query}` : ""}`;
}

export function link(page, parts, text) {
  return el("a", { href: address(page, parts) }, text);
}
