import { load, save } from "../lib/settings";

export interface Entry {
  expr: string;
  /** When it ran last, in Unix milliseconds. */
  at: number;
}

const most = 200;

export function entries(): Entry[] {
  const stored = load<unknown>("history", []);
  return (Array.isArray(stored) ? stored : []).filter(
    (e: Entry | null): e is Entry => typeof e?.expr === "string" && typeof e.at === "number",
  );
}

/** Puts an expression in front; each is there once. */
export function remember(expr: string): void {
  const others = entries().filter((e) => e.expr !== expr);
  save("history", [{ expr, at: Date.now() }, ...others].slice(0, most));
}

export function forget(): void {
  save("history", []);
}
