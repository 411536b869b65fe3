// Small drawings of the last days.

import { drawn, el } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 100;

/** Bars of `values` by day; `failed` are parts of them. */
export function bars(title, total, days, values, failed, shown) {
  const most = Math.max(...days.map((day) => values.get(day) ?? 0));
  const step = WIDTH / days.length;
  const bar = (kind, index, value) =>
    drawn("rect", {
      class: kind, x: index * step + 1, width: Math.max(step - 2, 1),
      y: HEIGHT - (HEIGHT * value) / most, height: (HEIGHT * value) / most,
    });
  const columns = days.flatMap((day, index) => {
    const value = values.get(day) ?? 0;
    if (!value) return [];
    const told = drawn("title", {}, `${day}: ${shown(value, failed.get(day) ?? 0)}`);
    return [drawn("g", {}, told, bar("bar", index, value), failed.get(day) ? bar("failed", index, failed.get(day)) : null)];
  });
  return figure(title, total, columns);
}

/** A line through `values` by day, between -1 and 1. */
export function scores(title, total, days, values) {
  const step = WIDTH / days.length;
  const height = (value) => (HEIGHT * (1 - value)) / 2;
  const known = days.map((day, index) => [day, index * step + step / 2, values.get(day)]).filter(([, , value]) => value !== undefined);
  const points = known.map(([day, x, value]) =>
    drawn("circle", { class: "point", cx: x, cy: height(value), r: 2.5 }, drawn("title", {}, `${day}: ${value.toFixed(2)}`)),
  );
  const line = drawn("polyline", { class: "line", points: known.map(([, x, value]) => `${x},${height(value)}`).join(" ") });
  return figure(title, total, [drawn("line", { class: "zero", x1: 0, x2: WIDTH, y1: HEIGHT / 2, y2: HEIGHT / 2 }), line, points]);
}

function figure(title, total, shapes) {
  const canvas = { viewBox: `0 -3 ${WIDTH} ${HEIGHT + 6}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${total}` };
  return el("figure", {}, el("figcaption", {}, title, el("span", { class: "faint" }, total)), drawn("svg", canvas, shapes));
}
