import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Missing } from "../api/types";
import { shortNumber } from "../lib/text";
import { palette } from "./colors";
import { inSlices, sliceHooks } from "./slices";

export interface Zoom {
  /** Shows a time range, in Unix milliseconds. */
  to(start: number, end: number): void;
  /** Returns to what was shown before. */
  back(): void;
}

export interface PlotProps {
  label: string;
  dark: boolean;
  local: boolean;
  data: uPlot.AlignedData;
  series: uPlot.Series[];
  scaleY?: uPlot.Scale;
  draw?(u: uPlot): void;
  /** Called with the cursor: an index of the grid and the pixel, or undefined without. */
  hover(u: uPlot, index: number | undefined, y: number): void;
  missing: Missing[];
  zoom: Zoom;
}

const height = 320;

/** A graph of uPlot with the axes, colours, zoom and keys of all graphs. */
export function Plot(props: PlotProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const zoom = useRef(props.zoom);
  zoom.current = props.zoom;
  useEffect(() => {
    const e = place.current!;
    const u = new uPlot(options(props, e.clientWidth, zoom), props.data, e);
    plot.current = u;
    const watch = new ResizeObserver(() => {
      if (e.clientWidth > 0 && e.clientWidth !== u.width) {
        u.setSize({ width: e.clientWidth, height });
      }
    });
    watch.observe(e);
    return () => {
      watch.disconnect();
      u.destroy();
    };
  }, [props.data, props.series, props.dark, props.local]);
  return (
    <div
      class="plot"
      role="img"
      aria-label={props.label}
      tabIndex={0}
      ref={place}
      onKeyDown={(e) => plot.current && key(plot.current, e, props.zoom)}
      onBlur={() => plot.current?.setCursor({ left: -10, top: -10 })}
    />
  );
}

/** Arrows move the cursor, plus and minus zoom, Escape removes the cursor. */
function key(u: uPlot, e: KeyboardEvent, zoom: Zoom): void {
  const { left = -1, top = -1 } = u.cursor;
  const width = u.over.clientWidth;
  const x = left < 0 ? width / 2 : left;
  const y = top < 0 ? u.over.clientHeight / 2 : top;
  const step = Math.max(width / Math.max(u.data[0].length - 1, 1), 4);
  const move = (dx: number, dy: number) =>
    u.setCursor({
      left: Math.min(Math.max(x + dx, 0), width - 1),
      top: Math.min(Math.max(y + dy, 0), u.over.clientHeight - 1),
    });
  const actions: Record<string, () => void> = {
    ArrowLeft: () => move(-step, 0),
    ArrowRight: () => move(step, 0),
    ArrowUp: () => move(0, -8),
    ArrowDown: () => move(0, 8),
    Escape: () => u.setCursor({ left: -10, top: -10 }),
    "+": () => {
      const at = u.posToVal(x, "x") * 1000;
      const quarter = ((u.scales.x!.max! - u.scales.x!.min!) * 1000) / 4;
      zoom.to(at - quarter, at + quarter);
    },
    "-": () => zoom.back(),
  };
  const action = e.ctrlKey || e.metaKey || e.altKey ? undefined : actions[e.key];
  if (action) {
    e.preventDefault();
    action();
  }
}

function options(p: PlotProps, width: number, zoom: { current: Zoom }): uPlot.Options {
  const colors = palette(p.dark);
  const slices = sliceHooks();
  const axis = {
    stroke: colors.fg,
    grid: { stroke: colors.grid, width: 1 },
    ticks: { show: false },
  };
  return {
    width: Math.max(width, 50),
    height,
    ...(p.local ? {} : { tzDate: (s: number) => uPlot.tzDate(new Date(s * 1000), "Etc/UTC") }),
    legend: { show: false },
    cursor: { points: { show: false }, drag: { x: true, y: false, setScale: false }, y: false },
    scales: { x: { time: true }, y: p.scaleY ?? {} },
    axes: [
      { ...axis, space: 72, values: clock },
      {
        ...axis,
        size: 64,
        values: (_, ticks) => ticks.map((v) => (v === null ? "" : shortNumber(v))),
      },
    ],
    series: [{}, ...inSlices(p.series)],
    hooks: {
      drawClear: [(u) => shade(u, p.missing, colors.warn)],
      draw: p.draw ? [p.draw] : slices.draw,
      destroy: slices.destroy,
      setCursor: [
        (u) => {
          const { idx, left = -1, top = -1 } = u.cursor;
          p.hover(u, left < 0 ? undefined : (idx ?? undefined), top);
        },
      ],
      setSelect: [
        (u) => {
          if (u.select.width > 3) {
            const at = (x: number) => u.posToVal(x, "x") * 1000;
            zoom.current.to(at(u.select.left), at(u.select.left + u.select.width));
          }
        },
      ],
      ready: [(u) => u.over.addEventListener("dblclick", () => zoom.current.back())],
    },
  };
}

/** The labels of the time axis with 24 hours: distance, format, and that of a new day. */
const clock: uPlot.Axis.Values = [
  [86400 * 28, "{YYYY}-{MM}", null, null, null, null, null, null, 1],
  [86400, "{MM}-{DD}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{YYYY}-{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{YYYY}-{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
  [0.001, ":{ss}.{fff}", "\n{YYYY}-{MM}-{DD} {HH}:{mm}", null, null, null, null, null, 1],
];

/** Marks the time ranges of missing stores behind the graph. */
function shade(u: uPlot, missing: Missing[], color: string): void {
  const { left, top, width, height } = u.bbox;
  u.ctx.save();
  u.ctx.fillStyle = color;
  for (const { mint, maxt } of missing) {
    if (mint !== undefined && maxt !== undefined) {
      const from = Math.max(u.valToPos(mint / 1000, "x", true), left);
      const to = Math.min(u.valToPos(maxt / 1000, "x", true), left + width);
      u.ctx.fillRect(from, top, Math.max(to - from, 0), height);
    }
  }
  u.ctx.restore();
}
