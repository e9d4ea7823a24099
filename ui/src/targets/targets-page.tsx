import { useMemo } from "preact/hooks";
import { LabelSet } from "../components/labels";
import {
  distinct,
  ListChoice,
  ListHead,
  partial,
  Tally,
  useList,
  useMatching,
} from "../components/list-page";
import { TenantField } from "../components/tenant-field";
import { numberColumn, VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { plural, seriesName, visible, type Labels } from "../lib/text";
import { formatSecond, roughDuration } from "../lib/time";
import { seconds } from "../queries/seconds";

interface Target {
  discoveredLabels: Labels;
  labels: Labels;
  scrapePool: string;
  scrapeUrl: string;
  globalUrl: string;
  lastError: string;
  lastScrape: string;
  lastScrapeDuration: number;
  health: string;
  scrapeInterval?: string;
  scrapeTimeout?: string;
}

const none: Target[] = [];
const order: Record<string, number> = { down: 0, unknown: 1, up: 2 };
const rank = (t: Target) => order[t.health] ?? 1;
const kinds: Record<string, string> = { down: "missing", up: "up" };

function ago(time: string): string {
  const at = Date.parse(time);
  return at > 0 ? `${roughDuration(Date.now() - at)} ago` : "never";
}

const columns: Column<Target>[] = [
  {
    key: "url",
    title: "Target",
    width: "minmax(10rem, 2fr)",
    cell: (t) => <code class="cut">{visible(t.scrapeUrl)}</code>,
    compare: (a, b) => a.scrapeUrl.localeCompare(b.scrapeUrl),
  },
  {
    key: "pool",
    title: "Pool",
    width: "minmax(5rem, 1fr)",
    cell: (t) => <span class="cut">{visible(t.scrapePool)}</span>,
    compare: (a, b) => a.scrapePool.localeCompare(b.scrapePool),
  },
  {
    key: "health",
    title: "Health",
    width: "5rem",
    cell: (t) => <span class={kinds[t.health] ?? "unknown"}>{t.health}</span>,
    compare: (a, b) => rank(a) - rank(b),
  },
  {
    key: "labels",
    title: "Labels",
    width: "minmax(10rem, 3fr)",
    cell: (t) => (
      <span class="cut">
        <LabelSet labels={t.labels} />
      </span>
    ),
  },
  {
    key: "scrape",
    title: "Last scrape",
    width: "7rem",
    cell: (t) => ago(t.lastScrape),
    compare: (a, b) => Date.parse(a.lastScrape) - Date.parse(b.lastScrape),
  },
  numberColumn("duration", "Took", "4.5rem", (t) => t.lastScrapeDuration, seconds),
];

/** The scrape targets of all servers, with replicas merged: those that are down first. */
export default function TargetsPage() {
  const list = useList<{ activeTargets: Target[] }>(
    "targets",
    { params: { state: "active", ...partial } },
    30e3,
  );
  const health = list.get("health");
  const pool = list.get("pool");
  const all = useMemo(
    () => list.answer?.data.activeTargets.toSorted((a, b) => rank(a) - rank(b)) ?? none,
    [list.answer],
  );
  const pools = useMemo(() => distinct(all, (t) => t.scrapePool), [all]);
  const matching = useMatching(all, list.text, (t) =>
    [t.scrapeUrl, t.scrapePool, t.lastError, seriesName(t.labels)].join(" "),
  );
  const rows = useMemo(
    () =>
      matching.filter((t) => (!health || t.health === health) && (!pool || t.scrapePool === pool)),
    [matching, health, pool],
  );
  const n = (h: string) => all.filter((t) => t.health === h).length;
  return (
    <>
      <ListHead
        title="Targets"
        list={list}
        filter="address, label, error"
        json="targets"
        summary={
          <>
            {plural(all.length, "target")}: <Tally n={n("down")} name="down" kind="missing" />
            <Tally n={n("unknown")} name="unknown" kind="unknown" />
            <Tally n={n("up")} name="up" kind="up" />
          </>
        }
      >
        <ListChoice list={list} label="Health" values={["down", "unknown", "up"]} />
        <ListChoice list={list} label="Pool" values={pools} />
      </ListHead>
      {list.answer && (
        <VirtualTable
          label="targets"
          rows={rows}
          columns={columns}
          rowKey={(t) => JSON.stringify([t.scrapePool, t.scrapeUrl, t.labels])}
          detail={(t) => <Detail target={t} />}
          empty={
            all.length > 0 ? "No target matches." : "No server behind this querier has targets."
          }
        />
      )}
      <TenantField list={list} />
    </>
  );
}

function Detail({ target: t }: { target: Target }) {
  const local = localTime.use();
  const last = Date.parse(t.lastScrape);
  return (
    <>
      {t.lastError && <p class="missing wrap">{visible(t.lastError)}</p>}
      <dl>
        <dt>Address</dt>
        <dd>{visible(t.scrapeUrl)}</dd>
        <dt>Global address</dt>
        <dd>{visible(t.globalUrl)}</dd>
        <dt>Labels</dt>
        <dd>
          <LabelSet labels={t.labels} />
        </dd>
        <dt>Discovered</dt>
        <dd>
          <LabelSet labels={t.discoveredLabels} />
        </dd>
        <dt>Last scrape</dt>
        <dd>{last > 0 ? formatSecond(last, local) : "never"}</dd>
        <dt>Interval</dt>
        <dd>{visible(t.scrapeInterval ?? "unknown")}</dd>
      </dl>
    </>
  );
}
