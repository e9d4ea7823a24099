import uPlot from "uplot";

/** So many series are drawn at once; the other ones follow in the next frames. */
const firstSlice = 50;

/** The bounds of the number of series in a slice after the first one. */
const smallest = 10;
const largest = 400;

/** A slice should not keep the page from input for longer, in milliseconds. */
const budget = 32;

/**
 * The options of series that uPlot draws in slices, one slice in each frame: to draw a
 * thousand lines takes several hundred milliseconds without a GPU, and the page would
 * not react to input for so long. The first slice is part of the first frame.
 */
export function inSlices(series: uPlot.Series[]): uPlot.Series[] {
  return series.map((s, i) => (i < firstSlice ? s : { ...s, paths: () => null }));
}

/**
 * Hooks that draw the series after the first slice. The element of the plot is aria-busy
 * until all are drawn, and data-slices counts the slices.
 */
export function sliceHooks(): Pick<uPlot.Hooks.Arrays, "draw" | "destroy"> {
  const path = uPlot.paths.linear!();
  let pending = 0;
  const stop = () => cancelAnimationFrame(pending);
  const begin = (u: uPlot) => {
    stop();
    let next = firstSlice + 1; // the first series of uPlot is the time
    let size = firstSlice;
    let before: number | undefined;
    let slices = 1;
    const note = () => {
      const busy = next < u.series.length;
      u.root.parentElement?.setAttribute("aria-busy", String(busy));
      u.root.parentElement?.setAttribute("data-slices", String(slices));
      return busy;
    };
    const step = (now: number) => {
      // The time of a frame counts, as the browser rasterises after the calls return.
      if (before !== undefined) {
        const slow = now - before > budget;
        size = Math.min(Math.max(slow ? size >> 1 : size * 2, smallest), largest);
      }
      before = now;
      const end = Math.min(next + size, u.series.length);
      drawLines(u, path, next, end);
      next = end;
      slices++;
      if (note()) {
        pending = requestAnimationFrame(step);
      }
    };
    if (note()) {
      pending = requestAnimationFrame(step);
    }
  };
  return { draw: [begin], destroy: [stop] };
}

/** Draws the series from up to, but without, end over what the canvas has. */
function drawLines(u: uPlot, path: uPlot.Series.PathBuilder, from: number, end: number): void {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.lineJoin = "round";
  for (let i = from; i < end; i++) {
    const s = u.series[i]!;
    const p = s.show === false ? null : path(u, i, 0, u.data[0].length - 1);
    if (!p) {
      continue;
    }
    const [stroke, fill] = [s.stroke, s.fill].map((c) => (typeof c === "function" ? c(u, i) : c));
    ctx.save();
    if (p.clip) {
      ctx.clip(p.clip);
    }
    if (fill && p.fill instanceof Path2D) {
      ctx.fillStyle = fill as string;
      ctx.fill(p.fill);
    }
    if (stroke && p.stroke instanceof Path2D) {
      ctx.strokeStyle = stroke as string;
      ctx.lineWidth = (s.width ?? 1) * devicePixelRatio;
      ctx.stroke(p.stroke);
    }
    ctx.restore();
  }
  ctx.restore();
}
