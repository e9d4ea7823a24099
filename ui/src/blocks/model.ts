import { seriesName, type Labels } from "../lib/text";

/** meta.json of a block, as far as the page reads it. Times are in milliseconds. */
export interface Meta {
  ulid: string;
  minTime: number;
  maxTime: number;
  stats: { numSamples?: number; numSeries?: number; numChunks?: number };
  compaction: { level: number; sources?: string[]; parents?: { ulid: string }[] };
  thanos: { labels: Labels | null; downsample: { resolution: number }; source: string };
}

/** A mark; the field of its time differs between the kinds. Times are Unix seconds. */
interface Mark {
  reason?: string;
  details?: string;
  deletion_time?: number;
  no_compact_time?: number;
  no_downsample_time?: number;
}

/** The data of /api/v1/blocks. */
export interface BlockList {
  label: string;
  blocks: Meta[];
  refreshedAt: string;
  err: string | null;
  sizes: Record<string, number>;
  marks: Record<string, { deletion?: Mark; noCompact?: Mark; noDownsample?: Mark }>;
  partial: Record<string, string>;
  markable: boolean;
  /** Of a compactor. */
  quarantined?: Record<string, string>;
  /** Of a store gateway. */
  state?: Record<string, { served: boolean; reason?: string; damaged?: string }>;
}

/** Something about a block that an operator may look for. */
export interface Remark {
  kind: string;
  text: string;
  bad: boolean;
}

/** A block as the page shows it; one without a usable meta.json has no meta. */
export interface Block {
  id: string;
  meta?: Meta;
  size?: number;
  resolution: string;
  level: number;
  /** External labels in the syntax of PromQL. */
  labels: string;
  /** Blocks of one group can be merged. */
  group: string;
  remarks: Remark[];
  /** In lower case, for the filter. */
  text: string;
}

export interface Group {
  key: string;
  labels: Labels;
  resolution: string;
  blocks: Block[];
  size: number;
  samples: number;
}

export const noMeta = "no meta.json";

export function resolutionName(ms: number): string {
  return ms === 0 ? "raw" : ms === 300e3 ? "5m" : ms === 3600e3 ? "1h" : `${ms} ms`;
}

function marked(kind: string, mark: Mark | undefined): Remark[] {
  if (!mark) {
    return [];
  }
  const text = [mark.reason, mark.details].filter(Boolean).join(": ");
  return [{ kind, text: text || "without a reason", bad: kind === "marked for deletion" }];
}

function remarksOf(id: string, list: BlockList): Remark[] {
  const { deletion, noCompact, noDownsample } = list.marks[id] ?? {};
  const out = [
    ...marked("marked for deletion", deletion),
    ...marked("not compacted", noCompact),
    ...marked("not downsampled", noDownsample),
  ];
  const add = (kind: string, text: string | undefined) =>
    text && out.push({ kind, text, bad: true });
  add(noMeta, list.partial[id]);
  add("quarantined", list.quarantined?.[id]);
  const state = list.state?.[id];
  add("damaged", state?.damaged);
  if (state && !state.served && list.partial[id] === undefined) {
    out.push({ kind: "not served", text: state.reason || "not loaded", bad: false });
  }
  return out;
}

/** The blocks of an answer, those of one group together, in the order of time. */
export function blocksOf(list: BlockList): Block[] {
  const metas = new Map(list.blocks.map((m) => [m.ulid, m]));
  const ids = [...new Set([...metas.keys(), ...Object.keys(list.partial)])];
  const out = ids.map((id) => blockOf(id, metas.get(id), list));
  return out.sort(
    (a, b) =>
      compare(a.group, b.group) ||
      (a.meta?.minTime ?? 0) - (b.meta?.minTime ?? 0) ||
      compare(a.id, b.id),
  );
}

function blockOf(id: string, meta: Meta | undefined, list: BlockList): Block {
  const resolution = meta ? resolutionName(meta.thanos.downsample.resolution) : noMeta;
  const labels = meta ? seriesName(sortedLabels(meta)) : "";
  const remarks = remarksOf(id, list);
  const block: Block = {
    id,
    resolution,
    level: meta?.compaction.level ?? 0,
    labels,
    group: `${labels} ${resolution}`,
    remarks,
    text: [id, labels, meta?.thanos.source, ...remarks.map((r) => `${r.kind} ${r.text}`)]
      .join(" ")
      .toLowerCase(),
  };
  const size = list.sizes[id];
  if (meta) {
    block.meta = meta;
  }
  if (size !== undefined) {
    block.size = size;
  }
  return block;
}

function sortedLabels(meta: Meta): Labels {
  return Object.fromEntries(
    Object.entries(meta.thanos.labels ?? {}).sort(([a], [b]) => compare(a, b)),
  );
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The groups of blocks that have a meta.json. */
export function groupsOf(blocks: Block[]): Group[] {
  const groups = new Map<string, Group>();
  for (const b of blocks) {
    if (!b.meta) {
      continue;
    }
    let g = groups.get(b.group);
    if (!g) {
      const labels = sortedLabels(b.meta);
      g = { key: b.group, labels, resolution: b.resolution, blocks: [], size: 0, samples: 0 };
      groups.set(b.group, g);
    }
    g.blocks.push(b);
    g.size += b.size ?? 0;
    g.samples += b.meta.stats.numSamples ?? 0;
  }
  return [...groups.values()];
}

/** The times that a timeline shows, in milliseconds. */
export interface Span {
  from: number;
  to: number;
}

export function spanOf(blocks: Block[]): Span {
  let from = Infinity;
  let to = -Infinity;
  for (const { meta } of blocks) {
    if (meta) {
      from = Math.min(from, meta.minTime);
      to = Math.max(to, meta.maxTime);
    }
  }
  return from < to ? { from, to } : { from: Date.now() - 3600e3, to: Date.now() };
}

/** A part of a lane: one block, or several that are too short to be seen apart. */
export interface Piece {
  /** Percent of the lane. */
  left: number;
  width: number;
  blocks: Block[];
}

/** Pieces shorter than this, in percent, are joined with the one before. */
const shortest = 0.4;

/** The lanes of a group, one for each level, the highest one first. */
export function lanesOf(blocks: Block[], span: Span): { level: number; pieces: Piece[] }[] {
  const lanes = new Map<number, Piece[]>();
  const percent = (t: number) => ((t - span.from) / (span.to - span.from)) * 100;
  for (const b of blocks) {
    if (!b.meta) {
      continue;
    }
    const left = percent(b.meta.minTime);
    const right = Math.max(percent(b.meta.maxTime), left + 0.05);
    const pieces = lanes.get(b.level) ?? [];
    lanes.set(b.level, pieces);
    const last = pieces.at(-1);
    if (last && (right - last.left < shortest || left < last.left + last.width - 0.01)) {
      last.width = Math.max(last.width, right - last.left);
      last.blocks.push(b);
    } else {
      pieces.push({ left, width: right - left, blocks: [b] });
    }
  }
  return [...lanes].map(([level, pieces]) => ({ level, pieces })).sort((a, b) => b.level - a.level);
}
