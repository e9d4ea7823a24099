import type { Execution, Selection, TracedStore } from "../api/types";
import { storeReasons } from "../components/notices";
import { numberColumn, VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { bytes, count, plural, visible } from "../lib/text";
import { formatSecond, isOpenEnd, isOpenStart } from "../lib/time";
import type { Analysis } from "./explain";
import { code, List, Section } from "./parts";

/** The stages of a query, with the parts that are sums over all cores below them. */
const stages: [key: string, title: string][] = [
  ["queued", "Waiting for a slot"],
  ["reading", "Waiting for stores"],
  ["evaluating", "Evaluating"],
  ["encoding", "Printing the result"],
  ["waitingForMemory", "Waiting for memory, all selections"],
  ["decodingOfAllCores", "Decoding and deduplicating, all cores"],
  ["functionsOfAllCores", "Functions of selectors, all cores"],
];

function milliseconds(seconds: number): string {
  return `${(seconds * 1000).toFixed(1)} ms`;
}

/** Where the time of a query went, and what it read. */
export function Costs({ analysis, execution: e }: { analysis: Analysis; execution: Execution }) {
  return (
    <Section title="Costs">
      <div class="cards">
        <List
          head={["Stage", "Time"]}
          rows={stages
            .filter(([key]) => e.seconds[key] !== undefined)
            .map(([key, title]) => [title, milliseconds(e.seconds[key] ?? 0)])}
        />
        <List
          head={["Read and held", ""]}
          rows={[
            ["Series", count(e.read.series)],
            ["Chunks", `${count(e.read.chunks)}, ${bytes(e.read.bytes)}`],
            ["Samples read", count(e.read.samples)],
            ["Most memory", bytes(e.memory.peakBytes)],
            [
              "Result",
              `${plural(analysis.resultSeries ?? 0, "series", "series")}, ${bytes(analysis.resultBytes ?? 0)}`,
            ],
            ["Evaluator", visible(e.evaluator)],
          ]}
        />
      </div>
    </Section>
  );
}

/** Which stores each selection asks, and why it leaves the other ones out. */
export function Selections(p: { selections: Selection[]; analyzed: boolean }) {
  const local = localTime.use();
  const times = (s: Selection) => {
    const from = isOpenStart(s.mint) ? "the beginning" : formatSecond(s.mint, local);
    return `${from} to ${isOpenEnd(s.maxt) ? "now" : formatSecond(s.maxt, local)}`;
  };
  return (
    <Section title="Stores">
      {p.selections.length === 0 && <p class="quiet">The query reads no series.</p>}
      {p.selections.map((s, i) => {
        const asked = s.stores.filter((t) => !t.reason).sort(byTrouble);
        return (
          <div key={i}>
            <p class="wrap">
              {code(s.selector)} <span class="quiet">{times(s)}</span>:{" "}
              {plural(asked.length, "store")} {p.analyzed ? "asked" : "to ask"},{" "}
              {s.stores.length - asked.length} left out
              {s.more ? `, ${s.more} more not listed` : ""}
            </p>
            <VirtualTable
              label={`stores of ${s.selector}`}
              rows={[...asked, ...s.stores.filter((t) => t.reason)]}
              columns={p.analyzed ? [...names, ...costs] : names}
              rowKey={(t) => `${t.component} ${t.store}`}
            />
          </div>
        );
      })}
    </Section>
  );
}

/** Stores that failed first, then the slowest ones. */
function byTrouble(a: TracedStore, b: TracedStore): number {
  const failed = (t: TracedStore) => Number(!!(t.answer?.error || t.missing));
  return failed(b) - failed(a) || (b.answer?.seconds ?? 0) - (a.answer?.seconds ?? 0);
}

const names: Column<TracedStore>[] = [
  {
    key: "store",
    title: "Store",
    width: "minmax(9rem, 1.4fr)",
    cell: (t) => <code class="wrap">{visible(t.store)}</code>,
    compare: (a, b) => a.store.localeCompare(b.store),
  },
  {
    key: "asked",
    title: "Asked",
    width: "minmax(9rem, 1.4fr)",
    cell: (t) =>
      t.reason ? (
        <span class="quiet">no: {storeReasons[t.reason] ?? visible(t.reason)}</span>
      ) : (
        <>
          {t.answer?.error ? (
            <span class="missing wrap">{visible(t.answer.error)}</span>
          ) : t.missing ? (
            <span class="missing">missing: {storeReasons[t.missing] ?? visible(t.missing)}</span>
          ) : t.answer && !t.answer.complete ? (
            <span class="unknown">yes, not read to the end</span>
          ) : (
            <span class="up">yes</span>
          )}
        </>
      ),
    compare: (a, b) => (a.reason ?? "").localeCompare(b.reason ?? ""),
  },
];

const costs: Column<TracedStore>[] = [
  numberColumn("series", "Series", "4.5rem", (t) => t.answer?.series, count),
  numberColumn("chunks", "Chunks", "4.5rem", (t) => t.answer?.chunks, count),
  numberColumn("bytes", "Bytes", "5rem", (t) => t.answer?.bytes, bytes),
  {
    key: "blocks",
    title: "Blocks",
    width: "minmax(6rem, 1fr)",
    cell: ({ answer }) => {
      const b = answer?.blocks;
      if (!b) {
        return "";
      }
      const out = [
        b.otherTimes > 0 && `${count(b.otherTimes)} of other times`,
        b.otherLabels > 0 && `${count(b.otherLabels)} of other labels`,
        b.otherResolutions > 0 && `${count(b.otherResolutions)} of other resolutions`,
      ].filter(Boolean);
      return (
        <>
          {count(b.queried)} read
          {out.length > 0 && <div class="quiet">left out: {out.join(", ")}</div>}
        </>
      );
    },
    compare: (a, b) => (a.answer?.blocks?.queried ?? -1) - (b.answer?.blocks?.queried ?? -1),
  },
  {
    key: "bucket",
    title: "Bucket",
    width: "minmax(6rem, 1fr)",
    cell: ({ answer }) => {
      const b = answer?.bucket;
      if (!b) {
        return "";
      }
      return (
        <>
          {plural(b.requests, "GET")}, {bytes(b.bytes)}
          <div class="quiet">
            cache: {count(b.pagesCached)} of {plural(b.pagesTouched, "page")}
          </div>
        </>
      );
    },
    compare: (a, b) => (a.answer?.bucket?.requests ?? -1) - (b.answer?.bucket?.requests ?? -1),
  },
  numberColumn("wait", "First data", "5.5rem", (t) => t.answer?.waitedSeconds, milliseconds),
  numberColumn("time", "Time", "5.5rem", (t) => t.answer?.seconds, milliseconds),
];
