import type { Histogram, MatrixSeries, Point, QueryResult, VectorSample } from "../api/types";
import { LabelSet } from "../components/labels";
import { VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { count, seriesName, shortNumber, visible } from "../lib/text";
import { formatTime } from "../lib/time";
import { parseValue } from "./frame";

/** The answer of an instant query. */
export function ResultTable({ result }: { result: QueryResult }) {
  switch (result.resultType) {
    case "vector":
      return <Vector samples={result.result} />;
    case "matrix":
      return <Matrix series={result.result} />;
    default:
      return (
        <p class="scalar">
          <span class="quiet">{result.resultType}</span> {visible(result.result[1])}
        </p>
      );
  }
}

const seriesColumn = <T extends { metric: Record<string, string> }>(n: number): Column<T> => ({
  key: "series",
  title: `${count(n)} series`,
  width: "minmax(12rem, 1fr)",
  cell: (s) => <LabelSet labels={s.metric} />,
  compare: (a, b) => (seriesName(a.metric) < seriesName(b.metric) ? -1 : 1),
});

/** The value of a sample for sorting: that of the float, or the count. */
function size(s: VectorSample): number {
  return parseValue(s.value?.[1] ?? s.histogram?.[1].count ?? "NaN");
}

function Vector({ samples }: { samples: VectorSample[] }) {
  const columns: Column<VectorSample>[] = [
    seriesColumn(samples.length),
    {
      key: "value",
      title: "Value",
      width: "minmax(7rem, max-content)",
      numeric: true,
      cell: (s) => (s.histogram ? <HistogramCell h={s.histogram[1]} /> : s.value?.[1]),
      compare: (a, b) => size(a) - size(b),
    },
  ];
  return (
    <VirtualTable
      label="result"
      rows={samples}
      columns={columns}
      rowKey={(s) => seriesName(s.metric)}
      empty="The answer has no series."
    />
  );
}

/** Count and sum, and the buckets as bars. */
function HistogramCell({ h }: { h: Histogram }) {
  const buckets = h.buckets ?? [];
  const most = Math.max(...buckets.map((b) => parseValue(b[3])), 0);
  return (
    <details class="histogram">
      <summary>
        count {shortNumber(parseValue(h.count))}, sum {shortNumber(parseValue(h.sum))}
      </summary>
      {buckets.slice(0, 200).map(([kind, low, high, n]) => (
        <div class="bucket" key={low + high}>
          <span>
            {kind === 1 || kind === 3 ? "[" : "("}
            {shortNumber(parseValue(low))}, {shortNumber(parseValue(high))}
            {kind === 0 || kind === 3 ? "]" : ")"}
          </span>
          <meter min={0} max={most || 1} value={parseValue(n)} />
          <span>{shortNumber(parseValue(n))}</span>
        </div>
      ))}
    </details>
  );
}

function Matrix({ series }: { series: MatrixSeries[] }) {
  const local = localTime.use();
  const at = ([t, v]: Point) => (
    <div key={t}>
      {v} <span class="quiet">@ {formatTime(t * 1000, local)}</span>
    </div>
  );
  const columns: Column<MatrixSeries>[] = [
    seriesColumn(series.length),
    {
      key: "values",
      title: "Values",
      width: "minmax(14rem, max-content)",
      cell: (s) => (
        <>
          {s.values?.slice(-50).map(at)}
          {(s.values?.length ?? 0) > 50 && (
            <div class="quiet">the last 50 of {count(s.values!.length)}</div>
          )}
          {s.histograms?.slice(-10).map(([t, h]) => (
            <div key={t}>
              <HistogramCell h={h} />
              <span class="quiet">@ {formatTime(t * 1000, local)}</span>
            </div>
          ))}
        </>
      ),
    },
  ];
  return (
    <VirtualTable
      label="result"
      rows={series}
      columns={columns}
      rowKey={(s) => seriesName(s.metric)}
      empty="The answer has no series."
    />
  );
}
