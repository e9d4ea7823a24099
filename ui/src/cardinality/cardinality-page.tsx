import { Link } from "../components/link";
import { ListHead, partial, useList, useMatching } from "../components/list-page";
import { TenantField } from "../components/tenant-field";
import { Share } from "../components/share";
import { numberColumn, VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { bytes, count, plural, quote, seriesName, visible } from "../lib/text";
import { formatSecond } from "../lib/time";
import { newPanel, print } from "../query/state";

interface Count {
  name: string;
  value: number;
}

export interface TSDBStatus {
  headStats: {
    numSeries: number;
    numLabelPairs: number;
    chunkCount: number;
    minTime: number;
    maxTime: number;
  };
  seriesCountByMetricName: Count[] | null;
  labelValueCountByLabelName: Count[] | null;
  memoryInBytesByLabelName: Count[] | null;
  seriesCountByLabelValuePair: Count[] | null;
}

type Kind = keyof Omit<TSDBStatus, "headStats">;

/** The lists of the statistics: what they name, what they count, and a query for more. */
const kinds: Record<
  Kind,
  { title: string; name: string; unit: string; expr(name: string): string }
> = {
  seriesCountByMetricName: {
    title: "Series by metric",
    name: "Metric",
    unit: "Series",
    expr: (name) => `count(${seriesName({ __name__: name })})`,
  },
  labelValueCountByLabelName: {
    title: "Values by label",
    name: "Label",
    unit: "Values",
    expr: (name) => `topk(20, count by (${quoted(name)}) ({${quoted(name)}!="", __name__!=""}))`,
  },
  memoryInBytesByLabelName: {
    title: "Memory by label",
    name: "Label",
    unit: "Memory",
    expr: (name) => `topk(20, count by (${quoted(name)}) ({${quoted(name)}!="", __name__!=""}))`,
  },
  seriesCountByLabelValuePair: {
    title: "Series by label and value",
    name: "Label and value",
    unit: "Series",
    expr: (pair) => {
      const at = pair.indexOf("=");
      return `topk(20, count by (__name__) ({${quoted(pair.slice(0, at))}=${quote(pair.slice(at + 1))}}))`;
    },
  },
};

/** A label name in a position where PromQL takes both forms. */
function quoted(name: string): string {
  return /^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name) ? name : quote(name);
}

const none: Count[] = [];

/** The series in the heads of the TSDBs behind the querier: which metrics and labels have most. */
export default function CardinalityPage() {
  const list = useList<TSDBStatus>("status/tsdb", { params: { limit: "1000", ...partial } }, 0);
  const chosen = list.get("list");
  const kind: Kind = chosen in kinds ? (chosen as Kind) : "seriesCountByMetricName";
  const local = localTime.use();
  const status = list.answer?.data;
  const all = status?.[kind] ?? none;
  const rows = useMatching(all, list.text, (c) => c.name);
  const head = status?.headStats;
  const total = kind.startsWith("series") ? (head?.numSeries ?? 0) : 0;
  const { title, name, unit, expr } = kinds[kind];
  const print1 = kind === "memoryInBytesByLabelName" ? bytes : count;
  const columns: Column<Count>[] = [
    {
      key: "name",
      title: name,
      width: "minmax(10rem, 1fr)",
      cell: (c) => <code class="wrap">{visible(c.name)}</code>,
      compare: (a, b) => a.name.localeCompare(b.name),
    },
    numberColumn("value", unit, "7rem", (c) => c.value, print1),
    {
      key: "share",
      title: total > 0 ? "Of all" : "Of these",
      width: "minmax(7rem, 14rem)",
      cell: (c) => (
        <Share
          value={c.value}
          all={total || (all[0]?.value ?? 0)}
          {...(total === 0 && { of: "of the largest" })}
        />
      ),
    },
  ];
  return (
    <>
      <ListHead
        title="Cardinality"
        list={list}
        filter="name"
        json="status/tsdb"
        summary={
          head && (
            <>
              {plural(head.numSeries, "series", "series")},{" "}
              {plural(head.numLabelPairs, "label pair")}, {plural(head.chunkCount, "chunk")} in the
              heads of all TSDBs
              {head.maxTime > head.minTime &&
                `, from ${formatSecond(head.minTime, local)} to ${formatSecond(head.maxTime, local)}`}
              .
            </>
          )
        }
      >
        <select
          aria-label="List"
          value={kind}
          onChange={(e) => list.set({ list: e.currentTarget.value })}
        >
          {Object.entries(kinds).map(([key, k]) => (
            <option key={key} value={key}>
              {k.title}
            </option>
          ))}
        </select>
      </ListHead>
      {status && (
        <VirtualTable
          key={kind}
          label={title}
          rows={rows}
          columns={columns}
          rowKey={(c) => c.name}
          detail={(c) => (
            <Link
              path="graph"
              search={print([newPanel({ expr: expr(c.name), tenant: list.tenant })], 0)}
            >
              Query <code>{visible(expr(c.name))}</code>
            </Link>
          )}
          empty={
            all.length > 0 ? "No name matches." : "No store behind this querier has statistics."
          }
        />
      )}
      <p class="quiet">Each replica of a series is counted. A list has at most 1000 names.</p>
      <TenantField list={list} />
    </>
  );
}
