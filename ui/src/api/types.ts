import type { Labels } from "../lib/text";

/** What an answer lacks; see docs/query.md. */
export interface Completeness {
  complete: boolean;
  missing?: Missing[];
  more?: number;
  skipped?: { store: string; reason: string }[];
}

export interface Missing {
  store: string;
  labels?: Labels[];
  mint?: number;
  maxt?: number;
  reason: string;
  error?: string;
}

/** Unix seconds and a value. */
export type Point = [number, string];
export type HistogramPoint = [number, Histogram];

export interface Histogram {
  count: string;
  sum: string;
  /** The kind of the boundaries, the lower and the upper one, and the count. */
  buckets?: [number, string, string, string][];
}

export interface VectorSample {
  metric: Labels;
  value?: Point;
  histogram?: HistogramPoint;
}

export interface MatrixSeries {
  metric: Labels;
  values?: Point[];
  histograms?: HistogramPoint[];
}

export interface QueryStats {
  timings?: Record<string, number>;
  samples?: { totalQueryableSamples?: number; peakSamples?: number };
  evaluator?: string;
}

export type QueryResult = { stats?: QueryStats } & (
  | { resultType: "vector"; result: VectorSample[] }
  | { resultType: "matrix"; result: MatrixSeries[] }
  | { resultType: "scalar" | "string"; result: Point }
);

export interface Explanation {
  evaluator: string;
  here: string;
  parts: { query: string; stores: string[] | null; merged: boolean }[];
  decisions: Decision[] | null;
  selectors: {
    selector: string;
    function: string;
    maxResolution: string;
    needsEverySample: boolean;
  }[];
  stores:
    { name: string; evaluatesNothingBecause?: string; minTime: number; maxTime: number }[] | null;
  /** The query was evaluated; otherwise no store was asked. */
  analyzed?: boolean;
  execution?: Execution;
  resultSeries?: number;
  resultBytes?: number;
  error?: string;
}

/** How a query was evaluated; see docs/query.md. Times are in seconds. */
export interface Execution {
  evaluator: string;
  seconds: Record<string, number>;
  memory: { peakBytes: number };
  read: { series: number; chunks: number; samples: number; bytes: number };
  selections: Selection[];
}

/** One read of the stores. Times are in milliseconds. */
export interface Selection {
  selector: string;
  mint: number;
  maxt: number;
  stores: TracedStore[];
  more?: number;
}

export interface TracedStore {
  store: string;
  component: string;
  asked: boolean;
  /** Why it is not asked. */
  reason?: string;
  /** Why it cannot answer, as known before it is asked. */
  missing?: string;
  answer?: {
    complete: boolean;
    error?: string;
    series: number;
    chunks: number;
    bytes: number;
    waitedSeconds: number;
    seconds: number;
    /** Of a store gateway. */
    blocks?: Record<"queried" | "otherTimes" | "otherLabels" | "otherResolutions", number>;
    bucket?: Record<"requests" | "bytes" | "pagesTouched" | "pagesCached", number>;
  };
}

export interface Decision {
  expr?: string;
  pushed?: boolean;
  reason?: string;
}

export interface Store {
  name: string;
  component: string;
  health: "up" | "missing" | "unknown";
  strict: boolean;
  contacted: boolean;
  lastCheck: string;
  lastError: string | null;
  labelSets: Labels[];
  minTime: number;
  maxTime: number;
  /** Problems that the store or the querier reports of it. */
  warnings?: string[];
}
