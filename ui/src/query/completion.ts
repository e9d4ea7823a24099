import type { PrometheusClient } from "@prometheus-io/codemirror-promql";
import { EqlRegex, EqlSingle, Neq, NeqRegex } from "@prometheus-io/lezer-promql";
import { call, type Params } from "../api/client";
import { quote } from "../lib/text";
import { optionsOf } from "./run";
import type { PanelState } from "./state";

type Matcher = NonNullable<Parameters<PrometheusClient["labelValues"]>[2]>[number];
type Metadata = Awaited<ReturnType<PrometheusClient["metricMetadata"]>>;

/** More names are not fetched; with more metrics the ones that begin alike are. */
const limit = 10_000;

/** How long answers serve further completions, in milliseconds. */
const fresh = 60_000;

/** How far back names are looked for. */
const lookback = 3600e3;

/** Metrics of the whole view; more tells that there are others. */
interface Names {
  names: string[];
  more: boolean;
}

/**
 * Answers the completion of the editor from the stores that the panel asks, as its
 * tenant. Failures mean no completion: the query itself shows the error.
 */
export class Completion implements PrometheusClient {
  private readonly cache = new Map<string, { at: number; value: Promise<unknown> }>();

  constructor(private readonly panel: () => PanelState) {}

  /** Calls the API, or takes a fresh answer to the same call. */
  private get<T>(path: string, params: Params, none: T): Promise<T> {
    const p = this.panel();
    const { dedup: _, max_source_resolution: __, ...options } = optionsOf(p);
    const all = { ...options, ...params };
    const key = JSON.stringify([path, all, p.tenant, p.end]);
    const known = this.cache.get(key);
    if (known && Date.now() - known.at < fresh) {
      return known.value as Promise<T>;
    }
    const end = p.end ?? Date.now();
    const times = { start: String((end - lookback) / 1000), end: String(end / 1000) };
    const value = call<T>(path, { params: { ...times, ...all }, tenant: p.tenant }).then(
      (answer) => answer.data ?? none,
      () => {
        this.cache.delete(key);
        return none;
      },
    );
    if (this.cache.size > 100) {
      this.cache.clear();
    }
    this.cache.set(key, { at: Date.now(), value });
    return value;
  }

  labelNames(metric?: string): Promise<string[]> {
    const match = metric ? { "match[]": selector(metric) } : {};
    return this.get("labels", { limit: String(limit), ...match }, []);
  }

  labelValues(label: string, metric = "", matchers: Matcher[] = []): Promise<string[]> {
    const others = matchers.filter((m) => m.name !== label);
    const match = metric || others.length > 0 ? { "match[]": selector(metric, others) } : {};
    const path = `label/${encodeURIComponent(label)}/values`;
    return this.get(path, { limit: String(limit), ...match }, []);
  }

  async metricNames(prefix = ""): Promise<string[]> {
    const all = await this.metrics("");
    return all.more && prefix ? (await this.metrics(prefix)).names : all.names;
  }

  private async metrics(prefix: string): Promise<Names> {
    const match = prefix ? { "match[]": `{__name__=~${quote(escape(prefix) + ".*")}}` } : {};
    const names = await this.get<string[]>(
      "label/__name__/values",
      { limit: String(limit), ...match },
      [],
    );
    return { names, more: names.length >= limit };
  }

  metricMetadata(): Promise<Metadata> {
    return this.get<Metadata>("metadata", {}, {});
  }

  async series(metric: string, matchers: Matcher[] = []): Promise<Map<string, string>[]> {
    const found = await this.get<Record<string, string>[]>(
      "series",
      { "match[]": selector(metric, matchers), limit: "1000" },
      [],
    );
    return found.map((labels) => new Map(Object.entries(labels)));
  }

  flags(): Promise<Record<string, string>> {
    return Promise.resolve({});
  }
}

/** Quotes the characters that mean something in a regular expression. */
function escape(text: string): string {
  return text.replace(/[\\^$.|?*+()[\]{}]/g, "\\$&");
}

/** The operators by the terms of the grammar. */
const operators = new Map([
  [EqlSingle, "="],
  [Neq, "!="],
  [EqlRegex, "=~"],
  [NeqRegex, "!~"],
]);

function selector(metric: string, matchers: Matcher[] = []): string {
  const parts = metric ? [`__name__=${quote(metric)}`] : [];
  for (const m of matchers) {
    const operator = operators.get(m.type);
    if (operator && !(operator === "=" && m.value === "")) {
      // The value is what stands between the quotes, with its escapes.
      parts.push(`${quote(m.name)}${operator}"${m.value}"`);
    }
  }
  return `{${parts.join(",")}}`;
}
