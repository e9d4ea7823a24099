import { readRange } from "./range";
import type { Span } from "./run";

/** Answers each body with its content, or with undefined for one that cannot be read. */
addEventListener("message", ({ data }: MessageEvent<[number, ArrayBuffer, Span]>) => {
  const [id, body, span] = data;
  try {
    const answer = readRange(body, span);
    const values = answer.data?.result[0]?.values as Float64Array | undefined;
    postMessage([id, answer], { transfer: values ? [values.buffer] : [] });
  } catch {
    postMessage([id, undefined]);
  }
});
