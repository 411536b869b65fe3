// Numbers and times as people read them.

const whole = new Intl.NumberFormat();
const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export function number(value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

export function decimal(value, digits = 3) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

/** A score or a change: with its sign. */
export function signed(value, digits = 2) {
  return value === null || value === undefined ? "–" : `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(digits)}`;
}

/** Dollars; an unknown price is not none. */
export function usd(value) {
  if (value === null || value === undefined) return "–";
  return `$${value.toFixed(value >= 1 || value === 0 ? 2 : 4)}`;
}

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return value < 120 ? `${value.toFixed(1)} s` : `${Math.round(value / 60)} min`;
}

export function moment(unix) {
  return unix === null || unix === undefined ? "–" : moments.format(new Date(unix * 1000));
}

export function counted(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}
