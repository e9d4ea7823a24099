const units: [string, number][] = [
  ["y", 365 * 86400e3],
  ["w", 7 * 86400e3],
  ["d", 86400e3],
  ["h", 3600e3],
  ["m", 60e3],
  ["s", 1e3],
  ["ms", 1],
];

/** Milliseconds of a duration of Prometheus, such as 1h30m, or undefined. */
export function parseDuration(text: string): number | undefined {
  const trimmed = text.trim();
  if (!/^(\d+(y|w|d|h|ms|m|s))+$/.test(trimmed)) {
    return undefined;
  }
  let sum = 0;
  for (const [, n, unit] of trimmed.matchAll(/(\d+)(y|w|d|h|ms|m|s)/g)) {
    sum += Number(n) * (units.find(([name]) => name === unit)?.[1] ?? 0);
  }
  return sum;
}

/** A duration as Prometheus writes it. Years and weeks appear only when nothing remains. */
export function formatDuration(ms: number): string {
  let rest = Math.round(ms);
  let out = "";
  for (const [unit, size] of units) {
    const exact = unit === "y" || unit === "w";
    if (rest >= size && (!exact || rest % size === 0)) {
      out += `${Math.floor(rest / size)}${unit}`;
      rest %= size;
    }
  }
  return out || "0s";
}

/** About how long, for people: the largest unit and the next one, at least a second. */
export function roughDuration(ms: number): string {
  const parts = formatDuration(Math.max(Math.round(ms / 1000), 1) * 1000).match(/\d+[a-z]+/g) ?? [];
  return parts.slice(0, 2).join(" ");
}

/** formatTime without the milliseconds. */
export function formatSecond(ms: number, local: boolean): string {
  return formatTime(ms, local).replace(/\.\d+$/, "");
}

function two(n: number, width = 2): string {
  return String(n).padStart(width, "0");
}

/** YYYY-MM-DD HH:MM:SS, and the milliseconds where there are any. */
export function formatTime(ms: number, local: boolean): string {
  const d = new Date(ms);
  if (Number.isNaN(d.getTime())) {
    return "out of range";
  }
  if (!local) {
    return d
      .toISOString()
      .replace("T", " ")
      .replace(/(\.000)?Z$/, "");
  }
  const date = `${two(d.getFullYear(), 4)}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
  const time = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  const millis = d.getMilliseconds();
  return `${date} ${time}${millis ? `.${two(millis, 3)}` : ""}`;
}

/** The inverse of formatTime, which also takes RFC 3339 and Unix seconds. */
export function parseTime(text: string, local: boolean): number | undefined {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) {
    return Math.round(Number(trimmed) * 1000);
  }
  const plain = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?))?$/.exec(trimmed);
  const ms = plain
    ? Date.parse(`${plain[1]}T${plain[2] ?? "00:00"}${local ? "" : "Z"}`)
    : Date.parse(trimmed);
  return Number.isNaN(ms) ? undefined : ms;
}

/** Times that stand for the beginning and the end of time, in milliseconds. */
export function isOpenStart(ms: number): boolean {
  return ms < -62135596800000;
}
export function isOpenEnd(ms: number): boolean {
  return ms > 253402300799999;
}
