import type { Envelope } from "../api/client";
import { gapped } from "./frame";
import { readRange, type RangeResult } from "./range";
import type { Span } from "./run";

/**
 * Larger bodies, in bytes, are read by a worker: one of 1,000 series has 6 MB, and the
 * page could not react to input while it reads them.
 */
const large = 1 << 18;

type Waiting = (answer: Envelope<RangeResult> | undefined) => void;

/** The worker of the page, once it was needed, and who waits for it by number. */
let worker: Worker | undefined;
let broken = false;
let last = 0;
const waiting = new Map<number, Waiting>();

/** Reads the answer of a range query; throws when it is no JSON. */
export async function readRangeBody(body: ArrayBuffer, span: Span): Promise<Envelope<RangeResult>> {
  const read = body.byteLength > large ? await elsewhere(body, span) : undefined;
  const answer = read ?? readRange(body, span);
  for (const series of answer.data?.result ?? []) {
    series.values = gapped(series.values);
  }
  return answer;
}

/** Reads a body in the worker; undefined when there is none, or the body cannot be read. */
function elsewhere(body: ArrayBuffer, span: Span): Promise<Envelope<RangeResult> | undefined> {
  return new Promise((resolve) => {
    worker ??= start();
    if (!worker) {
      resolve(undefined);
      return;
    }
    waiting.set(++last, resolve);
    worker.postMessage([last, body, span]);
  });
}

/** Starts the worker. A proxy can forbid it; then the page reads bodies itself. */
function start(): Worker | undefined {
  if (broken) {
    return undefined;
  }
  const w = new Worker(new URL("./range-worker.ts", import.meta.url), { type: "module" });
  w.addEventListener("message", ({ data }: MessageEvent<[number, Parameters<Waiting>[0]]>) => {
    const [id, answer] = data;
    waiting.get(id)?.(answer);
    waiting.delete(id);
  });
  w.addEventListener("error", () => {
    broken = true;
    worker = undefined;
    for (const resolve of waiting.values()) {
      resolve(undefined);
    }
    waiting.clear();
  });
  return w;
}
