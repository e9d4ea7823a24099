import { useEffect, useState } from "preact/hooks";
import { env } from "../env";
import { call } from "./client";
import type { Store } from "./types";

/** More would not help to choose one. */
const most = 1000;

/**
 * The tenants that the querier knows: those in the labels of its stores, and those that
 * have asked. Empty where it does not tell.
 */
export function useTenants(): string[] {
  const [tenants, set] = useState<string[]>([]);
  useEffect(() => {
    const abort = new AbortController();
    const { signal } = abort;
    const stores = call<Record<string, Store[]>>("stores", { signal }).then(({ data }) =>
      Object.values(data)
        .flat()
        .flatMap((s) => s.labelSets.map((l) => l[env.tenantLabel ?? ""] ?? "")),
    );
    const asked = call<{ queries: { tenant: string }[] }>("top_queries", {
      params: { limit: String(most) },
      signal,
    }).then(({ data }) => data.queries.map((q) => q.tenant));
    Promise.allSettled([stores, asked]).then((all) => {
      const names = all.flatMap((r) => (r.status === "fulfilled" ? r.value : []));
      if (!signal.aborted) {
        set([...new Set(names)].filter(Boolean).sort().slice(0, most));
      }
    });
    return () => abort.abort();
  }, []);
  return tenants;
}
