import type { Store } from "../api/types";
import { labelName, quote, type Labels } from "../lib/text";
import { formatDuration } from "../lib/time";

/** Something about the external labels or times of stores that will be noticed later. */
export interface Finding {
  text: string;
  stores: string[];
}

/** Stores of these kinds have series of one source, which external labels have to name. */
const sources = new Set(["sidecar", "rule", "receive"]);

/** More than this ahead of the clock of the browser is a wrong clock, in milliseconds. */
const ahead = 10 * 60e3;

/** Looks for mistakes in the external labels and times of the stores that are up. */
export function examine(stores: Store[], now: number): Finding[] {
  const up = stores.filter((s) => s.health === "up");
  const out: Finding[] = [];
  const bare = up.filter((s) => sources.has(s.component) && s.labelSets.every(isEmpty));
  if (bare.length > 0) {
    out.push({
      text: "No external labels: their series cannot be told from those of other sources, and sidecars without labels do not ship.",
      stores: bare.map((s) => s.name),
    });
  }
  for (const [labels, same] of equalLabels(up)) {
    out.push({
      text: `The same external labels ${labels}: if these are different servers, give each labels of its own (or a replica label, for an HA pair).`,
      stores: same,
    });
  }
  const future = up.filter((s) => s.maxTime > now + ahead && s.maxTime < now + 100 * 365 * 86400e3);
  if (future.length > 0) {
    out.push({
      text: `Samples more than ${formatDuration(ahead)} ahead of the clock of this browser.`,
      stores: future.map((s) => s.name),
    });
  }
  return out;
}

function isEmpty(labels: Labels): boolean {
  return Object.keys(labels).length === 0;
}

/** Label sets that several sources of one kind announce, with their names. */
function equalLabels(stores: Store[]): [string, string[]][] {
  const found = new Map<string, string[]>();
  for (const s of stores.filter((s) => sources.has(s.component))) {
    for (const labels of s.labelSets.filter((l) => !isEmpty(l))) {
      const text = Object.entries(labels)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([k, v]) => `${labelName(k)}=${quote(v)}`)
        .join(", ");
      const key = `${s.component} {${text}}`;
      found.set(key, [...(found.get(key) ?? []), s.name]);
    }
  }
  return [...found].filter(([, names]) => names.length > 1);
}
