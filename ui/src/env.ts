/** What the server says about itself in the page; see pkg/ui.Config. */
export interface Env {
  role: string;
  version: string;
  pages: string[];
  /** Pages of other processes. */
  links?: { title: string; url: string }[];
  tenantHeader?: string;
  defaultTenant?: string;
  tenantLabel?: string;
}

function meta(name: string): string {
  return document.querySelector<HTMLMetaElement>(`meta[name="${name}"]`)?.content ?? "";
}

function read(): Env {
  const text = meta("hindsight");
  // The development server of Vite does not fill the template.
  return text.startsWith("{{")
    ? {
        role: "query",
        version: "development",
        pages: ["graph", "stores", "queries", "status", "blocks", "compaction", "ring", "tenants"],
      }
    : (JSON.parse(text) as Env);
}

export const env = read();

/** Allows the style sheets of the editor; see the Content-Security-Policy. */
export const nonce = meta("csp-nonce");

/**
 * The first page, with a slash at the end. It follows from the URL of this script in
 * assets/, so a prefix that a proxy takes off needs no configuration.
 */
const script = import.meta.url;
export const root = new URL("..", script);
