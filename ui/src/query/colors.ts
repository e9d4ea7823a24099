import { useEffect, useState } from "preact/hooks";
import { theme } from "../lib/settings";

/** Whether the page is dark at the moment; a change draws again. */
export function useDark(): boolean {
  const mode = theme.use();
  const query = "(prefers-color-scheme: dark)";
  const [system, set] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const media = matchMedia(query);
    const update = () => set(media.matches);
    media.addEventListener("change", update);
    return () => media.removeEventListener("change", update);
  }, []);
  return mode === "auto" ? system : mode === "dark";
}

/** The colour of the i-th series; neighbours are far apart on the wheel. */
export function seriesColor(i: number, dark: boolean): string {
  const hue = (212 + i * 137.508) % 360;
  const light = (dark ? 62 : 42) + ((Math.floor(i / 9) % 3) - 1) * 8;
  return `hsl(${hue.toFixed(1)} 62% ${light}%)`;
}

/** An opaque fill below a line of that colour: areas of a stack must not mix. */
export function fillColor(i: number, dark: boolean): string {
  const hue = (212 + i * 137.508) % 360;
  return `hsl(${hue.toFixed(1)} 45% ${dark ? 38 : 72}%)`;
}

/** The colour of a bucket with this share of the largest count. */
export function heatColor(share: number, dark: boolean): string {
  const s = Math.sqrt(share);
  return dark
    ? `hsl(${(225 - 180 * s).toFixed(0)} 80% ${(22 + 50 * s).toFixed(0)}%)`
    : `hsl(${(215 + 60 * s).toFixed(0)} 75% ${(90 - 62 * s).toFixed(0)}%)`;
}

export interface Palette {
  fg: string;
  grid: string;
  warn: string;
}

export function palette(dark: boolean): Palette {
  return dark
    ? { fg: "#a9b3c4", grid: "#2b3240", warn: "rgb(240 184 73 / 0.14)" }
    : { fg: "#566072", grid: "#e6e9ef", warn: "rgb(190 120 0 / 0.13)" };
}
