import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { call, message, type Answer, type Call } from "./client";

interface Polled<T> {
  answer?: Answer<T>;
  /** Why the last attempt failed; the answer is that of the one before. */
  error?: string;
  reload(): void;
}

/** Calls the API now and after each period; 0 is only now. Hidden pages do not call. */
export function usePolled<T>(path: string, options: Call, period: number): Polled<T> {
  const [state, set] = useState<{ answer?: Answer<T>; error?: string }>({});
  const [round, setRound] = useState(0);
  const latest = useRef(options);
  latest.current = options;
  useEffect(() => {
    const abort = new AbortController();
    call<T>(path, { ...latest.current, signal: abort.signal }).then(
      (answer) => set({ answer }),
      (e) => abort.signal.aborted || set((old) => ({ ...old, error: message(e) })),
    );
    return () => abort.abort();
  }, [path, round, options.tenant]);
  useEffect(() => {
    if (period <= 0) {
      return;
    }
    const timer = setInterval(() => document.hidden || setRound((n) => n + 1), period);
    return () => clearInterval(timer);
  }, [period]);
  return { ...state, reload: useCallback(() => setRound((n) => n + 1), []) };
}
