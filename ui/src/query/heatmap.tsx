import { useMemo, useRef, useState } from "preact/hooks";
import type uPlot from "uplot";
import type { Missing } from "../api/types";
import { localTime } from "../lib/settings";
import { count, seriesName, shortNumber, visible } from "../lib/text";
import { formatTime } from "../lib/time";
import { heatColor, useDark } from "./colors";
import { grid, heatmaps, type Cell, type HeatmapSeries } from "./frame";
import { Plot, type Zoom } from "./plot";
import type { RangeSeries } from "./range";
import type { Span } from "./run";
import { Tip, type Hover } from "./tip";

interface Props {
  result: RangeSeries[];
  span: Span;
  missing: Missing[];
  zoom: Zoom;
}

/** The buckets of one histogram over time. */
export function Heatmap({ result, span, missing, zoom }: Props) {
  const times = useMemo(() => grid(span), [span]);
  const all = useMemo(() => heatmaps(result, span, times.length), [result, span]);
  const [chosen, choose] = useState("");
  const one = all.find((h) => seriesName(h.labels) === chosen) ?? all[0];
  if (!one) {
    return (
      <p class="quiet pad">
        The answer has no histogram. A heatmap needs native histograms, or the buckets of a classic
        one with the label le.
      </p>
    );
  }
  return (
    <>
      {all.length > 1 && (
        <label class="field">
          Histogram
          <select value={seriesName(one.labels)} onChange={(e) => choose(e.currentTarget.value)}>
            {all.slice(0, 1000).map((h) => {
              const name = seriesName(h.labels);
              return (
                <option key={name} value={name}>
                  {visible(name)}
                </option>
              );
            })}
          </select>
        </label>
      )}
      <Cells {...{ one, times, span, missing, zoom }} />
    </>
  );
}

interface CellsProps extends Omit<Props, "result"> {
  one: HeatmapSeries;
  times: number[];
}

/** The range of the axis: without the ends that are infinite. */
function bounds(one: HeatmapSeries): { min: number; max: number; log: boolean } {
  const ends = one.cells.flatMap((cells) => cells.flatMap((c) => [c.low, c.high]));
  const finite = ends.filter(Number.isFinite);
  const positive = finite.filter((v) => v > 0);
  const log = positive.length > 0 && !finite.some((v) => v < 0);
  const values = log ? positive : finite;
  let min = Infinity;
  let max = -Infinity;
  for (const v of values) {
    min = Math.min(min, v);
    max = Math.max(max, v);
  }
  if (!(min < max)) {
    return log ? { min: max / 2 || 0.5, max: max * 2 || 1, log } : { min: -1, max: 1, log };
  }
  return { min, max, log };
}

function Cells({ one, times, span, missing, zoom }: CellsProps) {
  const dark = useDark();
  const local = localTime.use();
  const tip = useRef<(h: Hover | undefined) => void>(() => {});
  const range = useMemo(() => bounds(one), [one]);
  const data = useMemo(
    () => [times, times.map(() => null)] as unknown as uPlot.AlignedData,
    [times, one],
  );
  const series = useMemo(() => [{ show: true, points: { show: false } }], []);
  const scaleY: uPlot.Scale = { distr: range.log ? 3 : 1, range: [range.min, range.max] };
  const half = span.step / 2000;
  const box = (u: uPlot, c: Cell, t: number) => {
    const clamp = (v: number) => Math.min(Math.max(v, range.min), range.max);
    const left = u.valToPos(t - half, "x", true);
    const bottom = u.valToPos(clamp(c.low), "y", true);
    const top = u.valToPos(clamp(c.high), "y", true);
    return { left, top, width: u.valToPos(t + half, "x", true) - left, height: bottom - top };
  };
  const draw = (u: uPlot) => {
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    u.ctx.clip();
    one.cells.forEach((cells, i) => {
      for (const c of cells) {
        const b = box(u, c, times[i]!);
        u.ctx.fillStyle = heatColor(c.count / one.most, dark);
        u.ctx.fillRect(b.left, b.top, Math.max(b.width, 1) + 0.5, Math.max(b.height, 1));
      }
    });
    u.ctx.restore();
  };
  const hover = (u: uPlot, index: number | undefined, y: number) => {
    const value = u.posToVal(y, "y");
    const cell =
      index === undefined
        ? undefined
        : one.cells[index]?.find((c) => c.low <= value && value < c.high);
    tip.current(
      cell && {
        left: u.valToPos(times[index!]!, "x") + u.over.offsetLeft,
        top: y + u.over.offsetTop,
        color: heatColor(cell.count / one.most, dark),
        time: times[index!]! * 1000,
        value: `${shortNumber(cell.count)} in ${shortNumber(cell.low)} … ${shortNumber(cell.high)}`,
        labels: one.labels,
      },
    );
  };
  const label =
    `Heatmap of ${seriesName(one.labels)} from ${formatTime(span.start, local)} to ` +
    `${formatTime(span.end, local)}. Arrow keys show values, plus zooms in, minus returns.`;
  return (
    <div class="plot-frame">
      <Plot {...{ label, dark, local, data, series, scaleY, draw, hover, missing, zoom }} />
      <Tip show={tip} local={local} />
      <p class="scale quiet">
        0
        {[0.02, 0.2, 0.4, 0.6, 0.8, 1].map((s) => (
          <i key={s} style={{ background: heatColor(s, dark) }} />
        ))}
        {count(Math.round(one.most))} per bucket
      </p>
    </div>
  );
}
