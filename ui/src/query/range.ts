import type { Envelope } from "../api/client";
import type { HistogramPoint, QueryResult } from "../api/types";
import { lengthOf, line, type Line } from "./frame";
import type { Span } from "./run";

/** A series of a range query; its floats are on the grid of the query. */
export interface RangeSeries extends Line {
  histograms?: HistogramPoint[];
}

/** The answer of a range query. */
export interface RangeResult {
  resultType: "range";
  result: RangeSeries[];
}

/** Reads the JSON of a range query. All values are in one buffer, so that a worker can hand it over. */
export function readRange(body: ArrayBuffer, span: Span): Envelope<RangeResult> {
  const { data, ...rest }: Envelope<QueryResult> = JSON.parse(new TextDecoder().decode(body));
  const series = data?.resultType === "matrix" ? data.result : [];
  const length = lengthOf(span);
  const all = new Float64Array(series.length * length);
  const result = series.map((s, i): RangeSeries => {
    const floats = line(s, span, all.subarray(i * length, (i + 1) * length));
    return s.histograms ? { ...floats, histograms: s.histograms } : floats;
  });
  return { ...rest, data: { resultType: "range", result } };
}
