import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, call, message, type Answer, type Params } from "../api/client";
import type { QueryResult } from "../api/types";
import type { RangeResult } from "./range";
import { readRangeBody } from "./read-range";
import type { PanelState } from "./state";

/** The times of a query in Unix milliseconds; an instant query has no step. */
export interface Span {
  start: number;
  end: number;
  step: number;
}

/** What a panel shows of its query. */
export interface Run {
  status: "idle" | "running" | "done" | "failed" | "cancelled";
  /** The last answer, also while the next one is on its way. */
  answer?: Answer<QueryResult | RangeResult>;
  span?: Span;
  /** The kind of the answer, instant or range. */
  ranged?: boolean;
  error?: ApiError;
  cancel(): void;
}

/** Whether the tab shows a range. */
export function isRanged(p: PanelState): boolean {
  return p.tab === "graph" || p.tab === "stacked" || p.tab === "heatmap";
}

/** A step with about 250 points in the range, whole seconds above one. */
export function autoStep(range: number): number {
  return Math.max(1000, Math.floor(range / 250 / 1000) * 1000);
}

/** The time range of a query that starts now. */
export function spanOf(p: PanelState): Span {
  const end = p.end ?? Date.now();
  return { start: end - p.range, end, step: p.step ?? autoStep(p.range) };
}

function seconds(ms: number): string {
  return String(ms / 1000);
}

/** The parameters of the panel beside expression and times. */
export function optionsOf(p: PanelState): Params {
  return {
    dedup: p.dedup || undefined,
    partial_response: p.partial || undefined,
    max_source_resolution: p.resolution === "raw" ? "0s" : p.resolution || undefined,
    "replicaLabels[]": p.replicaLabels && (p.replicaLabels.length ? p.replicaLabels : [""]),
    "storeMatch[]": p.storeMatch,
  };
}

export function queryParams(p: PanelState, span: Span, ranged: boolean): Params {
  const times = ranged
    ? { start: seconds(span.start), end: seconds(span.end), step: seconds(span.step) }
    : { time: seconds(span.end) };
  return { query: p.expr, ...times, ...optionsOf(p) };
}

/**
 * Runs the query of a panel whenever it changes, and when again does. A new run and
 * cancel end the one before; the server then ends its work in all stores. A change of
 * round, the automatic refresh, waits for its next turn instead: a query that takes
 * longer than the period would never end.
 */
export function useRun(p: PanelState, again: number, round: number): Run {
  const [state, set] = useState<Omit<Run, "cancel">>({ status: "idle" });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (state.status !== "running") {
      setTurn(round);
    }
  }, [round]);
  const abort = useRef<AbortController>(undefined);
  const ranged = isRanged(p);
  const active = p.tab !== "explain";
  const identity = JSON.stringify([
    { ...p, key: 0, tab: ranged, range: ranged && p.range, step: ranged && p.step },
    active,
    again,
    turn,
  ]);
  useEffect(() => {
    if (p.expr.trim() === "" || !active) {
      set((old) => (p.expr.trim() === "" ? { status: "idle" } : old));
      return;
    }
    const controller = new AbortController();
    abort.current = controller;
    const span = spanOf(p);
    set((old) => ({ ...(old.ranged === ranged ? old : {}), status: "running" }));
    const options = {
      params: queryParams(p, span, ranged),
      tenant: p.tenant,
      signal: controller.signal,
    };
    (ranged
      ? call<RangeResult>("query_range", { ...options, read: (body) => readRangeBody(body, span) })
      : call<QueryResult>("query", options)
    ).then(
      (answer) => controller.signal.aborted || set({ status: "done", answer, span, ranged }),
      (e) => {
        if (controller.signal.reason === "cancelled") {
          set((old) => ({ ...old, status: "cancelled" }));
        } else if (!controller.signal.aborted) {
          const error = e instanceof ApiError ? e : new ApiError(message(e), "page", 0);
          set({ status: "failed", error });
        }
      },
    );
    return () => controller.abort("replaced");
  }, [identity]);
  return { ...state, cancel: () => abort.current?.abort("cancelled") };
}
