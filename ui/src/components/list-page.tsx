import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";
import type { Answer, Params } from "../api/client";
import { usePolled } from "../api/use";
import { env, root } from "../env";
import { visible } from "../lib/text";
import { CallState, MissingNotice, Notes } from "./notices";
import { Search } from "./search";

/** A list of the API, with the filter and the tenant of its page. */
export interface List<T> {
  answer?: Answer<T>;
  error?: string;
  reload(): void;
  text: string;
  setText(text: string): void;
  tenant: string;
  setTenant(tenant: string): void;
}

/** Shows what there is when stores are missing, and names those. */
export const partial: Params = { partial_response: "true" };

/** Calls a path of the API after each period in milliseconds; 0 is only once. */
export function useList<T>(path: string, params: Params, period: number): List<T> {
  const [tenant, setTenant] = useState("");
  const [text, setText] = useState("");
  const polled = usePolled<T>(path, { params, tenant }, period);
  return { ...polled, text, setText, tenant, setTenant };
}

/** The rows whose text has all words of the filter. */
export function useMatching<T>(rows: T[], words: string, textOf: (row: T) => string): T[] {
  const texts = useMemo(() => rows.map((row) => textOf(row).toLowerCase()), [rows]);
  return useMemo(() => {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    return wanted.length === 0
      ? rows
      : rows.filter((_, i) => wanted.every((word) => texts[i]?.includes(word)));
  }, [texts, words]);
}

interface HeadProps<T> {
  title: string;
  list: List<T>;
  /** What the filter looks at. */
  filter: string;
  /** The path of the JSON, below api/v1/. */
  json: string;
  summary?: ComponentChildren;
  /** More controls. */
  children?: ComponentChildren;
}

/** The title, the notices and the controls of a list. */
export function ListHead<T>({ title, list, filter, json, summary, children }: HeadProps<T>) {
  const { answer, error } = list;
  return (
    <>
      <h1>{title}</h1>
      <CallState answer={answer} error={error} />
      {answer?.completeness && <MissingNotice completeness={answer.completeness} />}
      {answer && <Notes kind="warn" notes={otherWarnings(answer)} />}
      {answer && summary && <p role="status">{summary}</p>}
      <div class="row">
        <Search
          label={`Filter by ${filter}`}
          placeholder={`Filter by ${filter}`}
          value={list.text}
          set={list.setText}
        />
        {children}
        <button onClick={list.reload}>Refresh</button>
        <a href={new URL(`api/v1/${json}`, root).href}>JSON</a>
      </div>
    </>
  );
}

/** The warnings that do not only repeat the error of a missing store. */
function otherWarnings(answer: Answer<unknown>): string[] {
  const known = new Set(answer.completeness?.missing?.map((m) => m.error));
  return answer.warnings.filter((w) => !known.has(w));
}

/** The tenant for which the page asks, where requests have one. */
export function TenantField<T>({ list }: { list: List<T> }) {
  if (!env.tenantHeader) {
    return null;
  }
  return (
    <details class="options">
      <summary>Tenant{list.tenant && `: ${visible(list.tenant)}`}</summary>
      <label class="field">
        The page as this tenant sees it, where the querier enforces tenancy
        <input value={list.tenant} onChange={(e) => list.setTenant(e.currentTarget.value.trim())} />
      </label>
    </details>
  );
}

/** How many of some rows need a look: "3 down", in the colour of the class. */
export function Tally({ n, name, kind }: { n: number; name: string; kind: string }) {
  return n > 0 ? (
    <span class={kind}>
      {n} {name}{" "}
    </span>
  ) : null;
}

/** The different values of a field, in order. */
export function distinct<T>(rows: T[], field: (row: T) => string): string[] {
  return [...new Set(rows.map(field))].sort();
}
