import { roughDuration } from "../lib/time";

/** A duration of seconds: with milliseconds below a minute, else about how long. */
export function seconds(s: number): string {
  if (s < 1) {
    return `${Math.round(s * 1000)} ms`;
  }
  return s < 60 ? `${s.toFixed(1)} s` : roughDuration(s * 1000);
}
