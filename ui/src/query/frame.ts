import type { HistogramPoint, MatrixSeries } from "../api/types";
import type { Labels } from "../lib/text";
import type { RangeSeries } from "./range";
import type { Span } from "./run";

/** Values on the grid of a range query; null, or NaN in a Float64Array, where there is none. */
export type Values = Float64Array | (number | null)[];

/** The floats of one series. */
export interface Line {
  labels: Labels;
  values: Values;
  min: number;
  max: number;
  /** The last value, also one that no axis has; undefined without floats. */
  last: number | undefined;
  /** The indexes of values without neighbours, which a line does not show. */
  lone: number[];
}

/** The grid of a range query, in Unix seconds. */
export function grid(span: Span): number[] {
  return Array.from({ length: lengthOf(span) }, (_, i) => (span.start + i * span.step) / 1000);
}

/** How many times the grid has. */
export function lengthOf(span: Span): number {
  return Math.max(Math.floor((span.end - span.start) / span.step) + 1, 1);
}

function indexOf(seconds: number, span: Span): number {
  return Math.round((seconds * 1000 - span.start) / span.step);
}

export function parseValue(text: string): number {
  const v = Number(text); // NaN for the infinities as Prometheus writes them
  return v === v ? v : text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : v;
}

/** Puts the floats of a series on the grid, into values. Values that no axis has are gaps. */
export function line(series: MatrixSeries, span: Span, values: Float64Array): Line {
  values.fill(NaN);
  let min = Infinity;
  let max = -Infinity;
  let last: number | undefined;
  // A graph has up to a million values: the loops allocate nothing for each.
  const points = series.values ?? [];
  for (let k = 0; k < points.length; k++) {
    const point = points[k]!;
    const v = parseValue(point[1]);
    last = v;
    if (Number.isFinite(v)) {
      values[indexOf(point[0], span)] = v;
      min = v < min ? v : min;
      max = v > max ? v : max;
    }
  }
  const lone: number[] = [];
  const gap = (i: number) => !(i in values) || Number.isNaN(values[i]);
  for (let i = 0; i < values.length; i++) {
    if (!Number.isNaN(values[i]) && gap(i - 1) && gap(i + 1)) {
      lone.push(i);
    }
  }
  return { labels: series.metric, values, min, max, last, lone };
}

/** The values as uPlot takes them: gaps are null, which only an array can have. */
export function gapped(values: Values): Values {
  return values instanceof Float64Array && values.some(Number.isNaN)
    ? Array.from(values, (v) => (Number.isNaN(v) ? null : v))
    : values;
}

/** For each line the sum of it and all before it, with gaps as zero. */
export function stack(lines: Line[], length: number): (number | null)[][] {
  const sum = new Array<number>(length).fill(0);
  const any = new Array<boolean>(length).fill(false);
  return lines.map((l) =>
    sum.map((_, i) => {
      const v = l.values[i] ?? null;
      if (v !== null) {
        sum[i]! += v;
        any[i] = true;
      }
      return any[i] ? sum[i]! : null;
    }),
  );
}

/** A bucket of a histogram at one time of the grid. */
export interface Cell {
  low: number;
  high: number;
  count: number;
}

/** A histogram over time: the cells of each time of the grid. */
export interface HeatmapSeries {
  labels: Labels;
  cells: Cell[][];
  most: number;
}

/** The histograms of an answer: native ones, and classic ones by their buckets. */
export function heatmaps(result: RangeSeries[], span: Span, length: number): HeatmapSeries[] {
  const native = result
    .filter((s) => s.histograms?.length)
    .map((s) => nativeHeatmap(s.labels, s.histograms!, span, length));
  return [...native, ...classicHeatmaps(result, length)];
}

function nativeHeatmap(
  labels: Labels,
  points: HistogramPoint[],
  span: Span,
  length: number,
): HeatmapSeries {
  const cells = Array.from({ length }, (): Cell[] => []);
  let most = 0;
  for (const [t, h] of points) {
    cells[indexOf(t, span)] = (h.buckets ?? []).map(([, low, high, n]) => {
      const count = parseValue(n);
      most = Math.max(most, count);
      return { low: parseValue(low), high: parseValue(high), count };
    });
  }
  return { labels, cells, most };
}

/** Series that differ in le only are one histogram, whose counts are cumulative. */
function classicHeatmaps(result: RangeSeries[], length: number): HeatmapSeries[] {
  const groups = new Map<string, { labels: Labels; bounds: [number, Line][] }>();
  for (const series of result) {
    const { le, ...labels } = series.labels;
    if (le === undefined || series.last === undefined) {
      continue;
    }
    const key = JSON.stringify(labels);
    const group = groups.get(key) ?? { labels, bounds: [] };
    group.bounds.push([parseValue(le), series]);
    groups.set(key, group);
  }
  return [...groups.values()].map(({ labels, bounds }) => {
    bounds.sort(([a], [b]) => a - b);
    let most = 0;
    const cells = Array.from({ length }, (_, i) =>
      bounds.flatMap(([high, l], k): Cell[] => {
        const before = k > 0 ? (bounds[k - 1]![1].values[i] ?? 0) : 0;
        const low = k > 0 ? bounds[k - 1]![0] : high > 0 ? 0 : -Infinity;
        const count = Math.max((l.values[i] ?? 0) - before, 0);
        most = Math.max(most, count);
        return count > 0 ? [{ low, high, count }] : [];
      }),
    );
    return { labels, cells, most };
  });
}
