import { useMemo } from "preact/hooks";
import { Link } from "../components/link";
import { ListChoice, ListHead, useList, useMatching } from "../components/list-page";
import { Share } from "../components/share";
import { VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { count, plural, visible } from "../lib/text";
import { formatSecond, roughDuration } from "../lib/time";
import { BacklogCards, type Backlog } from "./backlog";

interface Job {
  kind: string;
  group: string;
  resolution?: string;
  blocks: string[];
  /** Milliseconds. */
  minTime: number;
  maxTime: number;
  samples: number;
  reason: string;
  started?: string;
  /** Of a running job that reads samples. */
  samplesRead?: number;
  percent?: number;
  etaSeconds?: number | null;
}

/** The data of /api/v1/compact/status. */
interface Status {
  plannedAt: string;
  todo: Record<string, number>;
  running: Job[];
  jobs: Job[];
  skipped: { block: string; details: string }[];
  quarantined: Record<string, string>;
  badBlocks: {
    block: string;
    group: string;
    reason: string;
    details: string;
    since: string;
    quarantined: boolean;
  }[];
  backlog: Backlog;
}

/** A row of the list: a job, or a block that no job takes. */
interface Row {
  key: string;
  state: "running" | "planned" | "skipped" | "invalid" | "quarantined";
  kind: string;
  blocks: string[];
  text: string;
  group: string;
  job?: Job;
  /** Since when a block is bad. */
  since?: string;
}

const none: Row[] = [];

/** What the compactor does, plans, and leaves out. */
export default function CompactionPage() {
  const list = useList<Status>("compact/status", {}, 5e3);
  const local = localTime.use();
  const status = list.answer?.data;
  const all = useMemo(() => (status ? rowsOf(status) : none), [status]);
  const [state, kind] = [list.get("state"), list.get("kind")];
  const rows = useMatching(all, list.text, (r) =>
    [r.kind, r.group, r.text, ...r.blocks].join(" "),
  ).filter((r) => (!state || r.state === state) && (!kind || r.kind === kind));
  return (
    <>
      <ListHead
        title="Compaction"
        list={list}
        filter="group, block, reason"
        json="compact/status"
        summary={status && <Summary status={status} local={local} />}
        above={status && <BacklogCards backlog={status.backlog} />}
      >
        <ListChoice list={list} label="State" values={Object.keys(classes)} />
        <ListChoice list={list} label="Kind" values={Object.keys(status?.todo ?? {}).sort()} />
      </ListHead>
      {status && (
        <VirtualTable
          label="jobs"
          rows={rows}
          columns={columns}
          rowKey={(r) => r.key}
          detail={(r) => <Detail row={r} local={local} />}
          empty={
            all.length > 0 ? "No job or block matches." : "Nothing runs, and nothing is planned."
          }
        />
      )}
    </>
  );
}

function Summary({ status, local }: { status: Status; local: boolean }) {
  const planned = Date.parse(status.plannedAt);
  const todo = Object.entries(status.todo).map(([name, n]) => `${count(n)} ${name}`);
  const bad = status.badBlocks.length;
  return (
    <>
      {planned > 0
        ? `Planned at ${formatSecond(planned, local)}: ${todo.join(", ") || "nothing to do"}`
        : "There is no plan yet."}
      {status.running.length > 0 && (
        <span class="up"> · {plural(status.running.length, "job")} running</span>
      )}
      {bad > 0 && <span class="missing"> · {plural(bad, "bad block")}</span>}
    </>
  );
}

/** Running jobs first, then what needs a look, then the plan. */
function rowsOf(s: Status): Row[] {
  const key = (j: Job) => `${j.kind} ${j.group} ${j.blocks.join()}`;
  const running = new Set(s.running.map(key));
  const job = (state: Row["state"]) => (j: Job) => ({
    key: key(j),
    state,
    kind: j.kind,
    blocks: j.blocks,
    text: j.reason,
    group: j.group,
    job: j,
  });
  const bad = new Set(s.badBlocks.map((b) => b.block));
  return [
    ...s.running.map(job("running")),
    ...s.badBlocks.map((b) => ({
      key: `bad ${b.block}`,
      state: b.quarantined ? ("quarantined" as const) : ("invalid" as const),
      kind: "",
      blocks: [b.block],
      text: `${b.reason}: ${b.details}`,
      group: b.group,
      since: b.since,
    })),
    ...s.jobs.filter((j) => !running.has(key(j))).map(job("planned")),
    ...s.skipped
      .filter((k) => !bad.has(k.block))
      .map((k) => ({
        key: `skipped ${k.block}`,
        state: "skipped" as const,
        kind: "",
        blocks: [k.block],
        text: k.details,
        group: "",
      })),
  ];
}

const classes = {
  running: "up",
  planned: "",
  skipped: "unknown",
  invalid: "missing",
  quarantined: "missing",
};

const columns: Column<Row>[] = [
  {
    key: "state",
    title: "State",
    width: "8rem",
    cell: (r) => <span class={classes[r.state]}>{r.state}</span>,
  },
  { key: "kind", title: "Kind", width: "9rem", cell: (r) => visible(r.kind) },
  {
    key: "group",
    title: "Group or block",
    width: "minmax(12rem, 1.5fr)",
    cell: (r) => <code class="cut">{visible(r.group || r.blocks[0] || "")}</code>,
  },
  {
    key: "reason",
    title: "Why",
    width: "minmax(10rem, 3fr)",
    cell: (r) => <span class="cut">{visible(r.text)}</span>,
  },
  {
    key: "progress",
    title: "Progress",
    width: "minmax(7rem, 1fr)",
    cell: (r) => r.job?.percent !== undefined && <Progress job={r.job} />,
    compare: (a, b) => (a.job?.percent ?? -1) - (b.job?.percent ?? -1),
  },
  {
    key: "samples",
    title: "Samples",
    width: "7rem",
    numeric: true,
    cell: (r) => (r.job ? count(r.job.samples) : ""),
    compare: (a, b) => (a.job?.samples ?? 0) - (b.job?.samples ?? 0),
  },
  {
    key: "since",
    title: "Since",
    width: "5.5rem",
    numeric: true,
    cell: (r) => age(r.job?.started ?? r.since),
    compare: (a, b) => sinceOf(a) - sinceOf(b),
  },
];

function sinceOf(r: Row): number {
  return Date.parse(r.job?.started ?? r.since ?? "") || Infinity;
}

function age(time: string | undefined): string {
  const at = Date.parse(time ?? "");
  return at > 0 ? roughDuration(Date.now() - at) : "";
}

/** How much of its inputs a job has read, and when it will have read all. */
function Progress({ job }: { job: Job }) {
  const eta = job.etaSeconds;
  return (
    <Share
      value={job.percent ?? 0}
      all={100}
      {...(typeof eta === "number" && { of: `, ${roughDuration(eta * 1000)} left` })}
    />
  );
}

function Detail({ row: r, local }: { row: Row; local: boolean }) {
  return (
    <>
      <p class="wrap">{visible(r.text)}</p>
      <dl>
        {r.group && (
          <>
            <dt>Group</dt>
            <dd>
              <code>{visible(r.group)}</code> {r.job?.resolution}
            </dd>
          </>
        )}
        {r.job?.samplesRead !== undefined && (
          <>
            <dt>Read</dt>
            <dd>
              {count(r.job.samplesRead)} of {plural(r.job.samples, "sample")}
            </dd>
          </>
        )}
        {r.job && r.job.maxTime > r.job.minTime && (
          <>
            <dt>Times</dt>
            <dd>
              {formatSecond(r.job.minTime, local)} to {formatSecond(r.job.maxTime, local)}
            </dd>
          </>
        )}
        <dt>{plural(r.blocks.length, "block")}</dt>
        <dd>
          {r.blocks.slice(0, 200).map((id) => (
            <div key={id}>
              <Link path="blocks" search={`?q=${id}`}>
                <code>{id}</code>
              </Link>
            </div>
          ))}
          {r.blocks.length > 200 && `and ${count(r.blocks.length - 200)} more`}
        </dd>
      </dl>
    </>
  );
}
