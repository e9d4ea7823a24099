import { useMemo } from "preact/hooks";
import { usePolled } from "../api/use";
import { ListChoice, ListHead, Tally, useList, useMatching } from "../components/list-page";
import { ErrorNotice } from "../components/notices";
import { QueryLink } from "../components/query-link";
import { Share } from "../components/share";
import { numberColumn, VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { bytes, count, plural, seriesName, shortNumber, visible } from "../lib/text";
import { formatSecond } from "../lib/time";

/** A tenant as the node that answers sees it; see /api/v1/receive/tenants. */
interface Tenant {
  tenant: string;
  series: number;
  series_limit: number;
  samples_per_second: number;
  oldest_sample_ms: number;
  newest_sample_ms: number;
  blocks: number;
  idle?: boolean;
  error?: string;
  limits: { key: string; value: number }[];
}

interface Cardinality {
  headStats: { numSeries: number; numLabelPairs: number };
  seriesCountByMetricName: { name: string; value: number }[] | null;
  labelValueCountByLabelName: { name: string; value: number }[] | null;
}

const none: Tenant[] = [];

const classes: Record<string, string> = { failed: "missing", active: "up", idle: "quiet" };

function stateOf(t: Tenant): string {
  return t.error ? "failed" : t.idle ? "idle" : "active";
}

function columnsOf(most: number, local: boolean): Column<Tenant>[] {
  const time = (ms: number) => (ms ? formatSecond(ms, local) : "none");
  return [
    {
      key: "tenant",
      title: "Tenant",
      width: "minmax(9rem, 2fr)",
      cell: (t) => <code class="cut">{visible(t.tenant)}</code>,
      compare: (a, b) => a.tenant.localeCompare(b.tenant),
    },
    {
      key: "state",
      title: "State",
      width: "4.5rem",
      cell: (t) => <span class={classes[stateOf(t)]}>{stateOf(t)}</span>,
      compare: (a, b) => stateOf(a).localeCompare(stateOf(b)),
    },
    numberColumn("series", "Series", "6rem", (t) => t.series, count),
    {
      key: "share",
      title: "Of the limit",
      width: "minmax(9rem, 1fr)",
      cell: (t) =>
        t.series_limit > 0 ? (
          <Share value={t.series} all={t.series_limit} of={`of ${count(t.series_limit)}`} limit />
        ) : (
          <Share value={t.series} all={most} of="of the largest" />
        ),
      compare: (a, b) =>
        a.series / (a.series_limit || Infinity) - b.series / (b.series_limit || Infinity),
    },
    {
      key: "rate",
      title: "Samples/s",
      width: "6rem",
      numeric: true,
      cell: (t) => shortNumber(Math.round(Math.max(t.samples_per_second, 0))),
      compare: (a, b) => a.samples_per_second - b.samples_per_second,
    },
    numberColumn("blocks", "Blocks", "4rem", (t) => t.blocks, count),
    {
      key: "newest",
      title: "Newest sample",
      width: "12rem",
      cell: (t) => time(t.newest_sample_ms),
      compare: (a, b) => a.newest_sample_ms - b.newest_sample_ms,
    },
  ];
}

/** The tenants that the node stores: those that fail first, then those with most series. */
export default function TenantsPage() {
  const local = localTime.use();
  const list = useList<Tenant[]>("receive/tenants", { bare: true }, 10e3);
  const all = useMemo(
    () =>
      list.answer?.data.toSorted(
        (a, b) => Number(!!b.error) - Number(!!a.error) || b.series - a.series,
      ) ?? none,
    [list.answer],
  );
  const state = list.get("state");
  const rows = useMatching(all, list.text, (t) => `${t.tenant} ${t.error ?? ""}`).filter(
    (t) => !state || stateOf(t) === state,
  );
  const most = Math.max(0, ...all.map((t) => t.series));
  const series = all.reduce((sum, t) => sum + t.series, 0);
  const rate = all.reduce((sum, t) => sum + Math.max(t.samples_per_second, 0), 0);
  const n = (s: string) => all.filter((t) => stateOf(t) === s).length;
  return (
    <>
      <ListHead
        title="Tenants"
        list={list}
        filter="name, error"
        json="receive/tenants"
        summary={
          <>
            {plural(all.length, "tenant")} on this node, {plural(series, "series", "series")},{" "}
            {shortNumber(Math.round(rate))} samples/s
            {all.length > 0 && ": "}
            <Tally n={n("failed")} name="failed" kind="missing" />
            <Tally n={n("active")} name="active" kind="up" />
            <Tally n={n("idle")} name="idle" kind="quiet" />
          </>
        }
      >
        <ListChoice list={list} label="State" values={Object.keys(classes)} />
      </ListHead>
      {list.answer && (
        <VirtualTable
          label="tenants"
          rows={rows}
          columns={columnsOf(most, local)}
          rowKey={(t) => t.tenant}
          detail={(t) => <Detail tenant={t} />}
          empty={
            all.length > 0 ? "No tenant matches." : "There are none. A first write makes a tenant."
          }
        />
      )}
      <p class="quiet">
        Series are those in memory. An idle tenant has only blocks; its next write or query opens
        it.
      </p>
    </>
  );
}

function Detail({ tenant: t }: { tenant: Tenant }) {
  const local = localTime.use();
  return (
    <>
      {t.error && (
        <p class="missing wrap">
          It cannot be opened, and is tried again. Its writes are refused until then, and go to
          other members where there are copies. {visible(t.error)}
        </p>
      )}
      <dl>
        <dt>Samples</dt>
        <dd>
          {t.newest_sample_ms
            ? `${formatSecond(t.oldest_sample_ms, local)} to ${formatSecond(t.newest_sample_ms, local)}`
            : "none"}
        </dd>
        <dt>Limit of series now</dt>
        <dd>{t.series_limit > 0 ? count(t.series_limit) : "none"}</dd>
        <dt>Limits in the file</dt>
        <dd>
          {t.limits.length === 0 && "none"}
          {t.limits.map((l) => (
            <div key={l.key}>
              <code>{l.key}</code> {l.key.includes("bytes") ? bytes(l.value) : count(l.value)}
            </div>
          ))}
        </dd>
      </dl>
      {stateOf(t) === "active" && <Top tenant={t.tenant} />}
    </>
  );
}

/** The metrics and labels of a tenant that have most. */
function Top({ tenant }: { tenant: string }) {
  const { answer, error } = usePolled<Cardinality[]>(
    "receive/cardinality",
    { params: { tenant, limit: "10" } },
    0,
  );
  if (error) {
    return <ErrorNotice text={error} />;
  }
  const c = answer?.data[0];
  if (!c) {
    return <p class="quiet">{answer ? "It has no head." : "Loading …"}</p>;
  }
  return (
    <div class="cards">
      <section aria-label="Metrics with most series">
        <h4>Metrics with most series</h4>
        <ol class="top-list">
          {c.seriesCountByMetricName?.map((m) => (
            <li key={m.name}>
              <QueryLink expr={`count(${seriesName({ __name__: m.name })})`} tenant={tenant}>
                {visible(m.name)}
              </QueryLink>{" "}
              <span class="quiet">{plural(m.value, "series", "series")}</span>
            </li>
          ))}
        </ol>
      </section>
      <section aria-label="Labels with most values">
        <h4>Labels with most values</h4>
        <ol class="top-list">
          {c.labelValueCountByLabelName?.map((l) => (
            <li key={l.name}>
              <code>{visible(l.name)}</code> <span class="quiet">{plural(l.value, "value")}</span>
            </li>
          ))}
        </ol>
      </section>
    </div>
  );
}
