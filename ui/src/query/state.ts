import { formatDuration, formatTime, parseDuration, parseTime } from "../lib/time";

export const tabs = ["table", "graph", "stacked", "heatmap", "explain"] as const;
export type Tab = (typeof tabs)[number];

export const resolutions = ["", "auto", "raw", "5m", "1h"] as const;
export type Resolution = (typeof resolutions)[number];

/** A parameter that the server decides about where it is empty. */
export type Choice = "" | "true" | "false";

/** What a panel asks for. A link has all of it. */
export interface PanelState {
  /** Tells the panels of a page apart; not part of a link. */
  key: number;
  expr: string;
  tab: Tab;
  /** Milliseconds before the end. */
  range: number;
  /** Unix milliseconds; undefined is now. The time of instant queries, too. */
  end: number | undefined;
  /** Milliseconds; undefined follows from the range. */
  step: number | undefined;
  dedup: Choice;
  partial: Choice;
  resolution: Resolution;
  /** Undefined leaves them to the server; an empty list removes none. */
  replicaLabels: string[] | undefined;
  /** Selectors of stores, such as {__address__="10.0.0.7:10901"}. */
  storeMatch: string[];
  tenant: string;
}

/** A link cannot start more panels, each of which runs a query. */
const maxPanels = 20;

let keys = 0;

export function newPanel(from: Partial<PanelState> = {}): PanelState {
  return {
    expr: "",
    tab: "table",
    range: 3600e3,
    end: undefined,
    step: undefined,
    dedup: "",
    partial: "",
    resolution: "",
    replicaLabels: undefined,
    storeMatch: [],
    tenant: "",
    ...from,
    key: ++keys,
  };
}

function choice(text: string | null): Choice {
  if (text === "1" || text === "true") {
    return "true";
  }
  return text === "0" || text === "false" ? "false" : "";
}

/** Reads the tab of our links, and of those of Prometheus and Thanos. */
function tabOf(get: (name: string) => string | null): Tab {
  const tab = get("tab");
  const graph = tab === "0" || tab === "graph";
  const mode = get("display_mode");
  if (graph && (mode === "stacked" || get("stacked") === "1")) {
    return "stacked";
  }
  if (graph && mode === "heatmap") {
    return "heatmap";
  }
  return graph ? "graph" : (tabs.find((t) => t === tab) ?? "table");
}

const resolutionNames: Record<string, Resolution> = {
  auto: "auto",
  "0s": "raw",
  "0": "raw",
  raw: "raw",
  "5m": "5m",
  "1h": "1h",
};

/** The selectors of stores: our repeated parameter, or the JSON of Thanos. */
function storeMatches(search: URLSearchParams, prefix: string): string[] {
  const own = search.getAll(`${prefix}store_match`);
  try {
    const theirs: unknown = JSON.parse(search.get(`${prefix}store_matches`) ?? "[]");
    const names = (Array.isArray(theirs) ? theirs : [])
      .map((s: { name?: unknown } | null) => s?.name)
      .filter((name) => typeof name === "string");
    return [...own, ...names.map(addressMatch)];
  } catch {
    return own;
  }
}

/** The selector of one store. */
export function addressMatch(name: string): string {
  return `{__address__=${JSON.stringify(name)}}`;
}

/** The panels of a link; always at least one. */
export function parse(search: string): PanelState[] {
  const params = new URLSearchParams(search);
  const out: PanelState[] = [];
  for (let i = 0; i < maxPanels && params.has(`g${i}.expr`); i++) {
    const get = (name: string) => params.get(`g${i}.${name}`);
    const end = get("end_input") ?? get("moment_input");
    const step = get("step_input") ?? get("res_step");
    const labels = get("replica_labels");
    out.push(
      newPanel({
        expr: get("expr") ?? "",
        tab: tabOf(get),
        range: parseDuration(get("range_input") ?? "") || 3600e3,
        end: end ? parseTime(end, false) : undefined,
        step: step ? parseStep(step) : undefined,
        dedup: choice(get("deduplicate")),
        partial: choice(get("partial_response")),
        resolution: resolutionNames[get("max_source_resolution") ?? ""] ?? "",
        replicaLabels: labels === null ? undefined : labels.split(",").filter((l) => l !== ""),
        storeMatch: storeMatches(params, `g${i}.`),
        tenant: get("tenant") ?? "",
      }),
    );
  }
  return out.length > 0 ? out : [newPanel()];
}

/** A step in seconds, or as a duration. */
export function parseStep(text: string): number | undefined {
  const seconds = Number(text);
  const ms = text !== "" && !Number.isNaN(seconds) ? seconds * 1000 : parseDuration(text);
  return ms !== undefined && ms >= 1 ? ms : undefined;
}

/** The parameters of a link to the panels, with "?". */
export function print(panels: PanelState[], refresh: number): string {
  const out = new URLSearchParams();
  panels.forEach((p, i) => {
    const set = (name: string, value: string | undefined) => {
      if (value !== undefined && value !== "") {
        out.append(`g${i}.${name}`, value);
      }
    };
    out.append(`g${i}.expr`, p.expr);
    set("tab", p.tab);
    set("range_input", formatDuration(p.range));
    set("end_input", p.end === undefined ? undefined : formatTime(p.end, false));
    set("step_input", p.step === undefined ? undefined : String(p.step / 1000));
    set("deduplicate", p.dedup && (p.dedup === "true" ? "1" : "0"));
    set("partial_response", p.partial && (p.partial === "true" ? "1" : "0"));
    set("max_source_resolution", p.resolution === "raw" ? "0s" : p.resolution);
    if (p.replicaLabels) {
      out.append(`g${i}.replica_labels`, p.replicaLabels.join(","));
    }
    p.storeMatch.forEach((m) => set("store_match", m));
    set("tenant", p.tenant);
  });
  if (refresh > 0) {
    out.append("refresh", formatDuration(refresh));
  }
  return `?${out}`;
}

/** The period of the automatic refresh in a link, 0 without; else a second or more. */
export function refreshOf(search: string): number {
  const period = parseDuration(new URLSearchParams(search).get("refresh") ?? "") ?? 0;
  // A timer takes no more than 31 bits, and fires at once instead.
  return period === 0 ? 0 : Math.min(Math.max(period, 1e3), 86400e3);
}
