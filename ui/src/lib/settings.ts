import { useEffect, useState } from "preact/hooks";

/** Reads a value that the browser keeps; the fallback without one, or without storage. */
export function load<T>(key: string, fallback: T): T {
  try {
    const text = localStorage.getItem(`hindsight.${key}`);
    return text === null ? fallback : (JSON.parse(text) as T);
  } catch {
    return fallback;
  }
}

/** Keeps a value, where the browser has storage. */
export function save(key: string, value: unknown): void {
  try {
    localStorage.setItem(`hindsight.${key}`, JSON.stringify(value));
  } catch {
    // Without storage, or with a full one, settings last as long as the page.
  }
}

/** A value that all components share and the browser keeps. */
export class Setting<T> {
  private value: T;
  private readonly listeners = new Set<(value: T) => void>();

  constructor(
    private readonly key: string,
    fallback: T,
    valid: (value: T) => boolean,
  ) {
    const stored = load(key, fallback);
    this.value = valid(stored) ? stored : fallback;
  }

  get(): T {
    return this.value;
  }

  set(value: T): void {
    this.value = value;
    save(this.key, value);
    this.listeners.forEach((call) => call(value));
  }

  use(): T {
    const [value, set] = useState(this.value);
    useEffect(() => {
      set(this.value);
      this.listeners.add(set);
      return () => void this.listeners.delete(set);
    }, []);
    return value;
  }
}

export type Theme = "auto" | "light" | "dark";
export const theme = new Setting<Theme>("theme", "auto", (t) =>
  ["auto", "light", "dark"].includes(t),
);

/** Whether times are those of the place of the browser instead of UTC. */
export const localTime = new Setting<boolean>("localTime", false, (v) => typeof v === "boolean");
