import { useMemo, useRef, useState } from "preact/hooks";
import type uPlot from "uplot";
import type { Missing } from "../api/types";
import { LabelSet } from "../components/labels";
import { numberColumn, VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { count, plural, seriesName, shortNumber } from "../lib/text";
import { formatTime } from "../lib/time";
import { fillColor, seriesColor, useDark } from "./colors";
import { grid, stack, type Line } from "./frame";
import { Plot, type Zoom } from "./plot";
import type { RangeSeries } from "./range";
import type { Span } from "./run";
import { Tip, type Hover } from "./tip";

interface Props {
  result: RangeSeries[];
  span: Span;
  stacked: boolean;
  missing: Missing[];
  zoom: Zoom;
}

/** Above so many lines, each has the width that the browser draws fastest. */
const manyLines = 100;

/** More lines are not drawn: no screen has so many pixels. */
const maxLines = 2000;

interface Numbered extends Line {
  index: number;
}

/** Lines or areas over time, and the list of the series. */
export function Graph({ result, span, stacked, missing, zoom }: Props) {
  const times = useMemo(() => grid(span), [span]);
  const lines = useMemo(() => result.map((s, index): Numbered => ({ ...s, index })), [result]);
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const floats = lines.filter((l) => l.last !== undefined);
  const shown = useMemo(
    () => floats.filter((l) => !hidden.has(seriesName(l.labels))).slice(0, maxLines),
    [lines, hidden],
  );
  if (floats.length === 0) {
    return (
      <p class="quiet pad">
        {result.length === 0
          ? "The answer has no series."
          : "The answer has histograms only: see them as a heatmap."}
      </p>
    );
  }
  return (
    <>
      <Lines {...{ times, shown, span, stacked, missing, zoom }} />
      {floats.length > maxLines && (
        <p class="quiet">
          The graph shows the first {count(maxLines)} of {plural(floats.length, "series", "series")}
          ; the list has all.
        </p>
      )}
      {floats.length < lines.length && (
        <p class="quiet">
          {plural(lines.length - floats.length, "series has", "series have")} histograms: see them
          as a heatmap.
        </p>
      )}
      <Legend lines={floats} hidden={hidden} setHidden={setHidden} />
    </>
  );
}

interface LinesProps extends Omit<Props, "result"> {
  times: number[];
  shown: Numbered[];
}

function Lines({ times, shown, span, stacked, missing, zoom }: LinesProps) {
  const dark = useDark();
  const local = localTime.use();
  const tip = useRef<(h: Hover | undefined) => void>(() => {});
  const [data, series] = useMemo(() => {
    // The sum of all is drawn first, so that the smaller ones cover it.
    const order = stacked ? shown.toReversed() : shown;
    const values = stacked ? stack(shown, times.length).toReversed() : shown.map((l) => l.values);
    return [
      [times, ...values] as uPlot.AlignedData,
      order.map((l) => options(l, stacked, dark, order.length > manyLines ? 1 : 1.25)),
    ] as const;
  }, [shown, stacked, dark, times]);
  const hover = (u: uPlot, index: number | undefined, y: number) => {
    const at = index === undefined ? undefined : nearest(u, index, y);
    if (index === undefined || at === undefined) {
      tip.current(undefined);
      return;
    }
    const l = (stacked ? shown.toReversed() : shown)[at - 1];
    const value = l?.values[index];
    if (l && value !== null && value !== undefined) {
      tip.current({
        left: u.valToPos(times[index]!, "x") + u.over.offsetLeft,
        top: u.valToPos(u.data[at]![index] as number, "y") + u.over.offsetTop,
        color: seriesColor(l.index, dark),
        time: times[index]! * 1000,
        value: String(value),
        labels: l.labels,
      });
    }
  };
  const label =
    `${stacked ? "Stacked graph" : "Graph"} of ${plural(shown.length, "series", "series")}` +
    ` from ${formatTime(span.start, local)} to ${formatTime(span.end, local)}.` +
    " Arrow keys show values, plus zooms in, minus returns.";
  return (
    <div class="plot-frame">
      <Plot {...{ label, dark, local, data, series, hover, missing, zoom }} />
      <Tip show={tip} local={local} />
    </div>
  );
}

function options(l: Numbered, stacked: boolean, dark: boolean, width: number): uPlot.Series {
  const color = seriesColor(l.index, dark);
  return {
    stroke: color,
    width,
    ...(stacked ? { fill: fillColor(l.index, dark) } : {}),
    points:
      l.lone.length > 0
        ? { show: true, size: 4, fill: color, filter: () => l.lone }
        : { show: false },
  };
}

/** The number of the series whose line is nearest to the pixel y at an index. */
function nearest(u: uPlot, index: number, y: number): number | undefined {
  let best: number | undefined;
  let distance = Infinity;
  for (let i = 1; i < u.data.length; i++) {
    const v = u.data[i]![index];
    if (v !== null && v !== undefined) {
      const d = Math.abs(u.valToPos(v, "y") - y);
      if (d < distance) {
        [best, distance] = [i, d];
      }
    }
  }
  return best;
}

interface LegendProps {
  lines: Numbered[];
  hidden: ReadonlySet<string>;
  setHidden(hidden: ReadonlySet<string>): void;
}

/** The series with their values; a click shows one alone, with Ctrl it hides one. */
function Legend({ lines, hidden, setHidden }: LegendProps) {
  const dark = useDark();
  const pick = (name: string, e: MouseEvent) => {
    const names = lines.map((l) => seriesName(l.labels));
    const others = new Set(names.filter((n) => n !== name));
    if (e.ctrlKey || e.metaKey || e.shiftKey) {
      const next = new Set(hidden);
      if (!next.delete(name)) {
        next.add(name);
      }
      setHidden(next);
    } else if (hidden.size === others.size && !hidden.has(name)) {
      setHidden(new Set());
    } else {
      setHidden(others);
    }
  };
  const columns: Column<Numbered>[] = [
    {
      key: "series",
      title: `${count(lines.length)} series`,
      width: "minmax(10rem, 1fr)",
      cell: (l) => {
        const name = seriesName(l.labels);
        return (
          <button
            class="series"
            aria-pressed={!hidden.has(name)}
            title="Show alone; with Ctrl hide or show"
            onClick={(e) => pick(name, e)}
          >
            <i style={{ background: seriesColor(l.index, dark) }} />
            <LabelSet labels={l.labels} />
          </button>
        );
      },
    },
    numberColumn("min", "Min", "5.5rem", (l) => l.min, shortNumber),
    numberColumn("max", "Max", "5.5rem", (l) => l.max, shortNumber),
    numberColumn("last", "Last", "5.5rem", (l) => l.last ?? NaN, shortNumber),
  ];
  return (
    <VirtualTable
      label="series of the graph"
      rows={lines}
      columns={columns}
      rowKey={(l) => seriesName(l.labels)}
      estimate={28}
    />
  );
}
