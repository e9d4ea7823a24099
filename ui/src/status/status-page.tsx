import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { usePolled } from "../api/use";
import type { TSDBStatus } from "../cardinality/cardinality-page";
import { Link } from "../components/link";
import { ListHead, partial, useList, useMatching } from "../components/list-page";
import { ErrorNotice, Notes } from "../components/notices";
import { VirtualTable, type Column } from "../components/virtual-table";
import { env, root } from "../env";
import { localTime } from "../lib/settings";
import { bytes, count, plural, visible } from "../lib/text";
import { formatSecond, roughDuration } from "../lib/time";

interface Memory {
  limitBytes: number;
  usedBytes: number;
  requests: number;
  waiting: number;
  tenants: Record<string, number>;
}

interface Flag {
  name: string;
  value: string;
}

const columns: Column<Flag>[] = [
  {
    key: "name",
    title: "Flag",
    width: "minmax(10rem, 1fr)",
    cell: (f) => <code>--{visible(f.name)}</code>,
    compare: (a, b) => a.name.localeCompare(b.name),
  },
  {
    key: "value",
    title: "Value",
    width: "minmax(10rem, 2fr)",
    cell: (f) =>
      f.value === "" ? (
        <span class="quiet">empty</span>
      ) : (
        <code class="wrap">{visible(f.value)}</code>
      ),
  },
];

const none: Flag[] = [];

/** Only a querier knows the memory of requests and the heads of all sources. */
const querier = env.role === "query";

/** The configuration and the state of the process. */
export default function StatusPage() {
  const list = useList<Record<string, string>>("status/flags", {}, 0);
  const flags = useMemo(
    () =>
      list.answer
        ? Object.entries(list.answer.data)
            .map(([name, value]) => ({ name, value }))
            .sort((a, b) => a.name.localeCompare(b.name))
        : none,
    [list.answer],
  );
  const rows = useMatching(flags, list.text, (f) => `${f.name} ${f.value}`);
  return (
    <>
      <h1>Status</h1>
      {querier && (
        <p>
          <Link path="sizing">Sizing: what a load needs</Link>
        </p>
      )}
      <div class="cards">
        {querier && <MemoryCard />}
        <RuntimeCard />
        <BuildCard />
        {querier && <HeadCard />}
      </div>
      <section class="flags" aria-label="Flags">
        <ListHead
          title="Flags"
          part
          list={list}
          filter="name, value"
          json="status/flags"
          summary="The configuration of this process. Secrets are masked."
        />
        {list.answer && (
          <VirtualTable
            label="flags"
            rows={rows}
            columns={columns}
            rowKey={(f) => f.name}
            empty="No flag matches."
          />
        )}
      </section>
    </>
  );
}

interface CardProps {
  title: string;
  json: string;
  error: string | undefined;
  children: ComponentChildren;
}

function Card({ title, json, error, children }: CardProps) {
  return (
    <section class="panel" aria-label={title}>
      <h2>
        {title} <a href={new URL(`api/v1/${json}`, root).href}>JSON</a>
      </h2>
      {error && <ErrorNotice text={error} />}
      {children ?? (error ? null : <p class="quiet">Loading …</p>)}
    </section>
  );
}

function MemoryCard() {
  const { answer, error } = usePolled<Memory>("status/memory", {}, 5e3);
  const m = answer?.data;
  const tenants = Object.entries(m?.tenants ?? {}).sort((a, b) => b[1] - a[1]);
  return (
    <Card title="Memory budget" json="status/memory" error={error}>
      {m && (
        <>
          {m.limitBytes > 0 && (
            <meter
              min={0}
              max={m.limitBytes}
              high={m.limitBytes * 0.85}
              value={m.usedBytes}
              aria-label="Memory in use"
            />
          )}
          <dl>
            <dt>In use</dt>
            <dd>
              {bytes(m.usedBytes)}{" "}
              {m.limitBytes > 0 ? `of ${bytes(m.limitBytes)}` : "without a limit"}
            </dd>
            <dt>Requests</dt>
            <dd>
              {count(m.requests)}
              {m.waiting > 0 && <span class="unknown">, {count(m.waiting)} wait for memory</span>}
            </dd>
            {tenants.length > 0 && <dt>Tenants</dt>}
            {tenants.length > 0 && (
              <dd>
                {tenants.slice(0, 10).map(([id, n]) => (
                  <div key={id}>
                    {visible(id)}: {bytes(n)}
                  </div>
                ))}
                {tenants.length > 10 && <div>and {tenants.length - 10} more</div>}
              </dd>
            )}
          </dl>
        </>
      )}
    </Card>
  );
}

/** A value of the Prometheus API for people. */
function text(value: unknown): string {
  return visible(typeof value === "string" ? value : (JSON.stringify(value) ?? ""));
}

function RuntimeCard() {
  const local = localTime.use();
  const { answer, error } = usePolled<Record<string, unknown>>("status/runtimeinfo", {}, 15e3);
  const r = answer?.data;
  const started = Date.parse(String(r?.startTime));
  const limit = Number(r?.GOMEMLIMIT);
  return (
    <Card title="Runtime" json="status/runtimeinfo" error={error}>
      {r && (
        <dl>
          <dt>Started</dt>
          <dd>
            {formatSecond(started, local)}, {roughDuration(Date.now() - started)} ago
          </dd>
          <dt>Host</dt>
          <dd>{text(r.hostname)}</dd>
          <dt>Directory</dt>
          <dd>{text(r.CWD)}</dd>
          <dt>Goroutines</dt>
          <dd>{text(r.goroutineCount)}</dd>
          <dt>GOMAXPROCS</dt>
          <dd>{text(r.GOMAXPROCS)}</dd>
          <dt>GOMEMLIMIT</dt>
          <dd>{limit < 2 ** 60 ? bytes(limit) : "none"}</dd>
        </dl>
      )}
    </Card>
  );
}

function BuildCard() {
  const { answer, error } = usePolled<Record<string, string>>("status/buildinfo", {}, 0);
  const b = answer?.data;
  return (
    <Card title="Build" json="status/buildinfo" error={error}>
      {b && (
        <dl>
          {["version", "revision", "branch", "buildDate", "goVersion"].map((name) => (
            <>
              <dt key={name}>{name}</dt>
              <dd key={`${name} value`}>{visible(b[name] || "unknown")}</dd>
            </>
          ))}
        </dl>
      )}
    </Card>
  );
}

function HeadCard() {
  const local = localTime.use();
  const { answer, error } = usePolled<TSDBStatus>(
    "status/tsdb",
    { params: { limit: "1", ...partial } },
    0,
  );
  const h = answer?.data.headStats;
  return (
    <Card title="TSDB heads" json="status/tsdb" error={error}>
      {h && (
        <>
          <Notes kind="warn" notes={answer.warnings} />
          <dl>
            <dt>Series</dt>
            <dd>{count(h.numSeries)}</dd>
            <dt>Chunks</dt>
            <dd>{count(h.chunkCount)}</dd>
            <dt>Times</dt>
            <dd>
              {h.maxTime > h.minTime
                ? `${formatSecond(h.minTime, local)} to ${formatSecond(h.maxTime, local)}`
                : "none"}
            </dd>
          </dl>
          <Link path="cardinality">Cardinality: {plural(h.numLabelPairs, "label pair")}</Link>
        </>
      )}
    </Card>
  );
}
