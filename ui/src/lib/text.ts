/**
 * The text with characters escaped that are invisible or change the direction of the
 * text around them, and would make one name look like another.
 */
export function visible(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

const legacy = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const legacyMetric = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;

/** A string literal of PromQL. */
export function quote(text: string): string {
  return `"${text.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n")}"`;
}

/** The name of a label as PromQL writes it. */
export function labelName(name: string): string {
  return legacy.test(name) ? name : quote(name);
}

export type Labels = Record<string, string>;

/** A label set as PromQL writes it, with the name in front where that is possible. */
export function seriesName(metric: Labels): string {
  const name = metric.__name__ ?? "";
  const plain = legacyMetric.test(name);
  const parts = name && !plain ? [quote(name)] : [];
  for (const [key, value] of Object.entries(metric)) {
    if (key !== "__name__") {
      parts.push(`${labelName(key)}=${quote(value)}`);
    }
  }
  const braces = parts.length > 0 || !plain ? `{${parts.join(", ")}}` : "";
  return (plain ? name : "") + braces;
}

/** A number with digits in groups. */
export function count(n: number): string {
  return n.toLocaleString("en-US").replaceAll(",", "\u202f");
}

/** A plural by the number. */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

export function bytes(n: number): string {
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < names.length - 1) {
    n /= 1024;
    i++;
  }
  return `${i === 0 ? n : n.toFixed(1)} ${names[i]}`;
}

/** A value for an axis or a tooltip: short, with the suffixes k, M, G, m, µ, n. */
export function shortNumber(v: number): string {
  if (!Number.isFinite(v)) {
    return Number.isNaN(v) ? "NaN" : v > 0 ? "+Inf" : "-Inf";
  }
  const abs = Math.abs(v);
  if (abs === 0 || (abs >= 1e-3 && abs < 1e4)) {
    return String(Number(v.toPrecision(5)));
  }
  for (const [size, suffix] of [
    [1e15, "P"],
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const) {
    if (abs >= size && abs < size * 1e3) {
      return `${Number((v / size).toPrecision(5))}${suffix}`;
    }
  }
  return v.toExponential(3);
}
