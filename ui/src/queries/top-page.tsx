import { Expression } from "../components/expression";
import { distinct, ListChoice, ListHead, useList, useMatching } from "../components/list-page";
import { TenantField } from "../components/tenant-field";
import { numberColumn, VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { bytes, count, plural, shortNumber, visible } from "../lib/text";
import { formatSecond } from "../lib/time";
import { ofRequest } from "./columns";
import { seconds } from "./seconds";

interface TopQuery {
  tenant: string;
  query: string;
  kind: string;
  count: number;
  interrupted: number;
  totalSeconds: number;
  maxSeconds: number;
  cost: number;
  series: number;
  samples: number;
  bytes: number;
  last: string;
}

interface TopQueries {
  since: string;
  complete: boolean;
  queries: TopQuery[];
}

const none: TopQuery[] = [];

const columns: Column<TopQuery>[] = [
  ...ofRequest,
  numberColumn("totalSeconds", "Total time", "5.5rem", (q) => q.totalSeconds, seconds),
  numberColumn("maxSeconds", "Longest", "5.5rem", (q) => q.maxSeconds, seconds),
  numberColumn("count", "Requests", "5.5rem", (q) => q.count, count),
  numberColumn("cost", "Cost", "5.5rem", (q) => q.cost, shortNumber),
  numberColumn("bytes", "Read", "5.5rem", (q) => q.bytes, bytes),
];

/** The requests that cost most since the querier started. */
export default function TopPage() {
  const local = localTime.use();
  const list = useList<TopQueries>("top_queries", { params: { limit: "1000" } }, 10e3);
  const kind = list.get("kind");
  const top = list.answer?.data;
  const all = top?.queries ?? none;
  const rows = useMatching(all, list.text, (q) => `${q.query} ${q.tenant} ${q.kind}`).filter(
    (q) => !kind || q.kind === kind,
  );
  return (
    <>
      <ListHead
        title="Top queries"
        list={list}
        filter="query, tenant"
        json="top_queries"
        summary={
          top && (
            <>
              {plural(all.length, "query", "queries")} since{" "}
              {formatSecond(Date.parse(top.since), local)}, those with the most time first.
              {!top.complete && " The querier has dropped cheaper ones."}
            </>
          )
        }
      >
        <ListChoice list={list} label="Kind" values={distinct(all, (q) => q.kind)} />
      </ListHead>
      {top && (
        <VirtualTable
          label="top queries"
          rows={rows}
          columns={columns}
          rowKey={(q) => JSON.stringify([q.tenant, q.kind, q.query])}
          detail={(q) => <Detail query={q} />}
          empty={all.length > 0 ? "No query matches." : "No query has ended yet."}
        />
      )}
      <p class="quiet">Cost counts the samples read and the points computed.</p>
      <TenantField list={list} />
    </>
  );
}

function Detail({ query: q }: { query: TopQuery }) {
  const local = localTime.use();
  return (
    <>
      <Expression expr={q.query} tenant={q.tenant} />
      <dl>
        <dt>Kind</dt>
        <dd>{visible(q.kind)}</dd>
        <dt>Mean time</dt>
        <dd>{seconds(q.totalSeconds / q.count)}</dd>
        <dt>Interrupted</dt>
        <dd>{plural(q.interrupted, "request")} cancelled, ended or out of time</dd>
        <dt>Read</dt>
        <dd>
          {plural(q.series, "series", "series")}, {plural(q.samples, "sample")}
        </dd>
        <dt>Last</dt>
        <dd>{formatSecond(Date.parse(q.last), local)}</dd>
      </dl>
    </>
  );
}
