import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { call, message, type Answer, type Call } from "./client";

interface Polled<T> {
  answer?: Answer<T>;
  /** Why the last attempt failed; the answer is that of the one before. */
  error?: string;
  reload(): void;
}

interface State<T> {
  answer?: Answer<T>;
  error?: string;
  /** The tenant of the call. */
  tenant?: string;
}

/**
 * Calls the API now and after each period; 0 is only now. Hidden pages do not call, and
 * a server that takes longer than the period gets no second call before it has answered.
 */
export function usePolled<T>(path: string, options: Call, period: number): Polled<T> {
  const [state, set] = useState<State<T>>({});
  const [round, setRound] = useState(0);
  const latest = useRef(options);
  latest.current = options;
  const waiting = useRef(false);
  const { tenant } = options;
  useEffect(() => {
    const abort = new AbortController();
    const end = (next: (old: State<T>) => State<T>) => {
      if (!abort.signal.aborted) {
        waiting.current = false;
        set(next);
      }
    };
    waiting.current = true;
    call<T>(path, { ...latest.current, signal: abort.signal }).then(
      (answer) => end(() => ({ tenant, answer })),
      (e) => end((old) => ({ ...(old.tenant === tenant && old), tenant, error: message(e) })),
    );
    return () => abort.abort();
  }, [path, round, tenant]);
  useEffect(() => {
    if (period <= 0) {
      return;
    }
    const timer = setInterval(
      () => document.hidden || waiting.current || setRound((n) => n + 1),
      period,
    );
    return () => clearInterval(timer);
  }, [period]);
  const reload = useCallback(() => setRound((n) => n + 1), []);
  // The answer for one tenant must not stand below the name of another one.
  return state.tenant === tenant ? { ...state, reload } : { reload };
}
