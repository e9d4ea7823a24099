import type { Column } from "../components/virtual-table";
import { visible } from "../lib/text";

/** The columns that name a request: its query and its tenant. */
export const ofRequest: Column<{ query: string; tenant: string; kind: string }>[] = [
  {
    key: "query",
    title: "Query",
    width: "minmax(10rem, 3fr)",
    cell: (q) => <code class="cut">{visible(q.query || `(${q.kind})`)}</code>,
  },
  {
    key: "tenant",
    title: "Tenant",
    width: "minmax(4rem, 1fr)",
    cell: (q) => <span class="cut">{visible(q.tenant)}</span>,
    compare: (a, b) => a.tenant.localeCompare(b.tenant),
  },
];
