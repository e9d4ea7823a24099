import type { Store } from "../api/types";
import type { Labels } from "../lib/text";
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

/**
 * Collects the warnings of stores, and looks for mistakes in the labels and times of
 * those that are up. The querier itself warns of equal external labels.
 */
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
  const warned = stores.filter((s) => s.warnings?.length);
  if (warned.length > 0) {
    out.push({
      text: "Warnings of the stores or about them: open their rows to read them.",
      stores: warned.map((s) => s.name),
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
