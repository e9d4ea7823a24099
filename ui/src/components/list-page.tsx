import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import type { Answer, Call, Params } from "../api/client";
import { usePolled } from "../api/use";
import { root } from "../env";
import { useParams } from "../lib/params";
import { Choose } from "./choose";
import { CallState, MissingNotice, Notes } from "./notices";
import { Search } from "./search";

/** A list of the API, with the filters of its page, which are in the URL. */
export interface List<T> {
  answer?: Answer<T>;
  error?: string;
  reload(): void;
  /** The words that rows have to have. */
  text: string;
  tenant: string;
  /** A filter by the name of its parameter; "" is none. */
  get(name: string): string;
  set(changes: Record<string, string>): void;
}

/** Shows what there is when stores are missing, and names those. */
export const partial: Params = { partial_response: "true" };

/** Calls a path of the API after each period in milliseconds; 0 is only once. */
export function useList<T>(path: string, options: Call, period: number): List<T> {
  const [url, set] = useParams();
  const get = (name: string) => url.get(name) ?? "";
  const tenant = get("tenant");
  const polled = usePolled<T>(path, { ...options, tenant }, period);
  return { ...polled, text: get("q"), tenant, get, set };
}

/** A filter of a list by one of some values; its parameter is the label in lower case. */
export function ListChoice<T>(p: { list: List<T>; label: string; values: string[] }) {
  const name = p.label.toLowerCase();
  return (
    <Choose
      label={p.label}
      value={p.list.get(name)}
      values={p.values}
      set={(value) => p.list.set({ [name]: value })}
    />
  );
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
  /** The list is a part of a page with a heading of its own. */
  part?: boolean;
  list: List<T>;
  /** What the filter looks at. */
  filter: string;
  /** The path of the JSON, below api/v1/. */
  json: string;
  summary?: ComponentChildren;
  /** What stands between the summary and the controls. */
  above?: ComponentChildren;
  /** More controls. */
  children?: ComponentChildren;
}

/** The title, the notices and the controls of a list. */
export function ListHead<T>(props: HeadProps<T>) {
  const { title, part, list, filter, json, summary, above, children } = props;
  const { answer, error } = list;
  return (
    <>
      {part ? <h2>{title}</h2> : <h1>{title}</h1>}
      <CallState answer={answer} error={error} />
      {answer?.completeness && <MissingNotice completeness={answer.completeness} />}
      {answer && <Notes kind="warn" notes={otherWarnings(answer)} />}
      {answer && summary && <p role="status">{summary}</p>}
      {above}
      <div class="row">
        <Search
          label={`Filter by ${filter}`}
          placeholder={`Filter by ${filter}`}
          value={list.text}
          set={(q) => list.set({ q })}
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
