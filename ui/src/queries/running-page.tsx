import { useState } from "preact/hooks";
import { call, message } from "../api/client";
import { Expression } from "../components/expression";
import { distinct, ListChoice, ListHead, useList, useMatching } from "../components/list-page";
import { ErrorNotice } from "../components/notices";
import { TenantField } from "../components/tenant-field";
import { numberColumn, VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { bytes, plural, shortNumber, visible } from "../lib/text";
import { formatSecond } from "../lib/time";
import { ofRequest } from "./columns";
import { seconds } from "./seconds";

interface RunningQuery {
  id: string;
  tenant: string;
  query: string;
  kind: string;
  start: string;
  ageSeconds: number;
  stage: string;
  remote: string;
  userAgent: string;
  series: number;
  samples: number;
  chunks: number;
  bytes: number;
  memoryBytes: number;
}

const none: RunningQuery[] = [];

/** What a request does in each stage. */
const stages: Record<string, string> = {
  queued:
    "waits for a slot of --query.max-concurrent, which it gives away while it waits for stores",
  reading: "waits for the stores and reads their series",
  evaluating: "is evaluated",
  encoding: "sends the result",
};

const columns: Column<RunningQuery>[] = [
  ...ofRequest,
  {
    key: "stage",
    title: "Stage",
    width: "6rem",
    cell: (q) => <span title={stages[q.stage]}>{visible(q.stage)}</span>,
  },
  numberColumn("age", "Age", "5rem", (q) => q.ageSeconds, seconds),
  numberColumn("samples", "Samples", "5rem", (q) => q.samples, shortNumber),
  numberColumn("memory", "Memory", "6rem", (q) => q.memoryBytes, bytes),
];

/** The requests that run, and a way to end them. */
export default function RunningPage() {
  const list = useList<{ queries: RunningQuery[] }>("queries", {}, 2e3);
  const stage = list.get("stage");
  const all = list.answer?.data.queries ?? none;
  const rows = useMatching(all, list.text, (q) =>
    [q.query, q.tenant, q.kind, q.stage, q.remote, q.userAgent].join(" "),
  ).filter((q) => !stage || q.stage === stage);
  return (
    <>
      <ListHead
        title="Running queries"
        list={list}
        filter="query, tenant, client"
        json="queries"
        summary={`${plural(all.length, "request runs", "requests run")}, the oldest first.`}
      >
        <ListChoice list={list} label="Stage" values={distinct(all, (q) => q.stage)} />
      </ListHead>
      {list.answer && (
        <VirtualTable
          label="running queries"
          rows={rows}
          columns={columns}
          rowKey={(q) => q.id}
          detail={(q) => <Detail query={q} tenant={list.tenant} reload={list.reload} />}
          empty={all.length > 0 ? "No query matches." : "No query runs."}
        />
      )}
      <TenantField list={list} />
    </>
  );
}

function Detail(p: { query: RunningQuery; tenant: string; reload(): void }) {
  const { query: q, tenant, reload } = p;
  const local = localTime.use();
  const [problem, setProblem] = useState<string>();
  const end = () => {
    call(`queries/${encodeURIComponent(q.id)}`, { method: "DELETE", tenant }).then(reload, (e) =>
      setProblem(message(e)),
    );
  };
  return (
    <>
      <Expression expr={q.query} tenant={q.tenant} />
      <dl>
        <dt>Stage</dt>
        <dd>
          {visible(q.stage)}
          {q.stage in stages && `: ${stages[q.stage]}`}
        </dd>
        <dt>Kind</dt>
        <dd>{visible(q.kind)}</dd>
        <dt>Client</dt>
        <dd>
          {visible(q.remote)} {visible(q.userAgent)}
        </dd>
        <dt>Started</dt>
        <dd>{formatSecond(Date.parse(q.start), local)}</dd>
        <dt>Read so far</dt>
        <dd>
          {plural(q.series, "series", "series")}, {plural(q.samples, "sample")},{" "}
          {plural(q.chunks, "chunk")}, {bytes(q.bytes)}
        </dd>
      </dl>
      {problem && <ErrorNotice text={problem} />}
      <p>
        <button onClick={end}>End this query</button>
      </p>
    </>
  );
}
