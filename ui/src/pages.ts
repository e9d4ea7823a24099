import type { ComponentType } from "preact";
import { env } from "./env";

/** A page of the application. */
export interface Page {
  /** One path segment below the root. */
  path: string;
  title: string;
  /** The page whose link stands for this one in the navigation. */
  below?: string;
  load(): Promise<{ default: ComponentType }>;
}

/**
 * All pages, in the order of the navigation. A server lists the paths of those for which
 * it has data; the other ones do not appear. A new page needs an entry here, a module
 * <name>-page.tsx with a default export, and its path in the Config of the server.
 */
const all: Page[] = [
  { path: "graph", title: "Query", load: () => import("./query/query-page") },
  { path: "stores", title: "Stores", load: () => import("./stores/stores-page") },
  { path: "queries", title: "Running", load: () => import("./queries/running-page") },
  { path: "top-queries", title: "Top queries", load: () => import("./queries/top-page") },
  { path: "targets", title: "Targets", load: () => import("./targets/targets-page") },
  { path: "rules", title: "Rules", load: () => import("./rules/rules-page") },
  { path: "alerts", title: "Alerts", load: () => import("./rules/alerts-page") },
  {
    path: "cardinality",
    title: "Cardinality",
    load: () => import("./cardinality/cardinality-page"),
  },
  { path: "blocks", title: "Blocks", load: () => import("./blocks/blocks-page") },
  {
    path: "compaction",
    title: "Compaction",
    load: () => import("./compaction/compaction-page"),
  },
  { path: "ring", title: "Ring", load: () => import("./ring/ring-page") },
  { path: "tenants", title: "Tenants", load: () => import("./tenants/tenants-page") },
  { path: "status", title: "Status", load: () => import("./status/status-page") },
  {
    path: "sizing",
    title: "Sizing",
    below: "status",
    load: () => import("./status/sizing-page"),
  },
];

export const pages = all.filter((page) => env.pages.includes(page.path));

/** The page of a path; the first one for the root and for unknown paths. */
export function pageOf(path: string): Page | undefined {
  return pages.find((page) => page.path === path) ?? pages[0];
}
