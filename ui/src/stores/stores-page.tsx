import { useMemo, useState } from "preact/hooks";
import { call, message } from "../api/client";
import type { Store } from "../api/types";
import { LabelSet } from "../components/labels";
import { Doctor } from "../components/doctor";
import { Link } from "../components/link";
import { distinct, ListChoice, ListHead, useList, useMatching } from "../components/list-page";
import { ErrorNotice } from "../components/notices";
import { TenantField } from "../components/tenant-field";
import { VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { seriesName, visible } from "../lib/text";
import { formatSecond, isOpenEnd, isOpenStart, roughDuration } from "../lib/time";
import { addressMatch, newPanel, print } from "../query/state";

const period = 15e3;

const order = { missing: 0, unknown: 1, up: 2 };

/** Orders stores by how much they need a look. */
function rank(s: Store): number {
  return order[s.health] - (s.warnings?.length ? 0.5 : 0);
}

/** The stores of the querier: health, labels, time ranges. */
export default function StoresPage() {
  const list = useList<Record<string, Store[]>>("stores", { params: { all: "true" } }, period);
  const { answer, reload } = list;
  const health = list.get("health");
  const kind = list.get("kind");
  const stores = useMemo(
    () =>
      Object.values(answer?.data ?? {})
        .flat()
        .sort((a, b) => rank(a) - rank(b)),
    [answer],
  );
  const matching = useMatching(stores, list.text, searchable);
  const shown = useMemo(
    () =>
      matching.filter((s) => (!health || s.health === health) && (!kind || s.component === kind)),
    [matching, health, kind],
  );
  return (
    <>
      <ListHead
        title="Stores"
        list={list}
        filter="name, label, error"
        json="stores?all=true"
        summary={<Summary stores={stores} />}
      >
        <ListChoice list={list} label="Health" values={["up", "missing", "unknown"]} />
        <ListChoice list={list} label="Kind" values={distinct(stores, (s) => s.component)} />
      </ListHead>
      <Doctor
        path="stores/findings"
        about="labels and times"
        period={period}
        tenant={list.tenant}
      />
      {answer && <Table {...{ shown, stores, reload }} />}
      <TenantField list={list} />
    </>
  );
}

function searchable(s: Store): string {
  return [
    s.name,
    s.component,
    s.lastError ?? "",
    ...(s.warnings ?? []),
    ...s.labelSets.map(seriesName),
  ].join(" ");
}

function Summary({ stores }: { stores: Store[] }) {
  const n = (health: string) => stores.filter((s) => s.health === health).length;
  if (stores.length === 0) {
    return (
      <>
        No store is configured. Name some with <code>--endpoint=host:port</code>.
      </>
    );
  }
  return (
    <>
      <span class="up">{n("up")} up</span>
      {n("missing") > 0 && <span class="missing"> · {n("missing")} missing</span>}
      {n("unknown") > 0 && <span class="unknown"> · {n("unknown")} not tried yet</span>}
    </>
  );
}

/** The times that the bars of the page are drawn in. */
interface Span {
  from: number;
  to: number;
}

/** From the oldest sample to now. */
function spanOf(stores: Store[]): Span {
  const to = Date.now();
  const starts = stores.filter((s) => hasTimes(s) && !isOpenStart(s.minTime)).map((s) => s.minTime);
  const from = Math.min(to - 3600e3, ...starts.filter((t) => t > 0));
  return { from, to };
}

function hasTimes(s: Store): boolean {
  return s.contacted && s.minTime <= s.maxTime;
}

interface TableProps {
  shown: Store[];
  stores: Store[];
  reload(): void;
}

function Table({ shown, stores, reload }: TableProps) {
  const local = localTime.use();
  const span = useMemo(() => spanOf(stores), [stores]);
  const columns: Column<Store>[] = [
    {
      key: "name",
      title: "Store",
      width: "minmax(11rem, 1.4fr)",
      cell: (s) => <code class="cut">{visible(s.name)}</code>,
      compare: (a, b) => a.name.localeCompare(b.name),
    },
    {
      key: "kind",
      title: "Kind",
      width: "5rem",
      cell: (s) => <span class="cut">{s.component}</span>,
      compare: (a, b) => a.component.localeCompare(b.component),
    },
    {
      key: "health",
      title: "Health",
      width: "6.5rem",
      cell: (s) => (
        <>
          <span class={s.health}>{s.health}</span>
          {s.warnings?.length ? <span class="unknown"> warning</span> : null}
        </>
      ),
      compare: (a, b) => rank(a) - rank(b),
    },
    {
      key: "times",
      label: "Time range",
      title: (
        <span class="axis">
          <span>{formatSecond(span.from, local).slice(0, 16)}</span>
          <span>now</span>
        </span>
      ),
      width: "minmax(12rem, 2fr)",
      cell: (s) => <TimeBar store={s} span={span} local={local} />,
    },
    {
      key: "labels",
      title: "Labels",
      width: "minmax(10rem, 2fr)",
      cell: (s) => (
        <span class="cut">
          {s.labelSets[0] && <LabelSet labels={s.labelSets[0]} />}
          {s.labelSets.length > 1 && <span class="quiet"> and {s.labelSets.length - 1} more</span>}
        </span>
      ),
    },
  ];
  return (
    <VirtualTable
      label="stores"
      rows={shown}
      columns={columns}
      rowKey={(s) => `${s.component} ${s.name}`}
      detail={(s) => <Detail store={s} reload={reload} />}
      empty="No store matches."
    />
  );
}

function TimeBar({ store: s, span, local }: { store: Store; span: Span; local: boolean }) {
  if (!hasTimes(s)) {
    return <span class="quiet">unknown</span>;
  }
  const share = (t: number) =>
    Math.min(Math.max((t - span.from) / (span.to - span.from), 0), 1) * 100;
  const left = isOpenStart(s.minTime) ? 0 : share(s.minTime);
  const width = Math.max((isOpenEnd(s.maxTime) ? 100 : share(s.maxTime)) - left, 0.5);
  const text = timeText(s, local);
  return (
    <span class="timebar" role="img" aria-label={text} title={text}>
      <i class={s.health} style={{ left: `${Math.min(left, 99.5)}%`, width: `${width}%` }} />
    </span>
  );
}

function timeText(s: Store, local: boolean): string {
  const from = isOpenStart(s.minTime) ? "the beginning" : formatSecond(s.minTime, local);
  const to = isOpenEnd(s.maxTime) ? "now and later" : formatSecond(s.maxTime, local);
  return `${from} to ${to}`;
}

function Detail({ store: s, reload }: { store: Store; reload(): void }) {
  const local = localTime.use();
  const [problem, setProblem] = useState<string>();
  const checked = Date.parse(s.lastCheck);
  const forget = () => {
    if (confirm(`Remove ${visible(s.name)} from the stores that answers are expected to have?`)) {
      call("stores", { method: "DELETE", params: { address: s.name } }).then(reload, (e) =>
        setProblem(message(e)),
      );
    }
  };
  return (
    <>
      {s.lastError && <p class="missing wrap">{visible(s.lastError)}</p>}
      {s.warnings?.map((w) => (
        <p key={w} class="unknown wrap">
          Warning: {visible(w)}
        </p>
      ))}
      {problem && <ErrorNotice text={problem} />}
      <dl>
        <dt>Last check</dt>
        <dd>
          {checked > 0
            ? `${formatSecond(checked, local)}, ${roughDuration(Date.now() - checked)} ago`
            : "none yet"}
        </dd>
        <dt>Time range</dt>
        <dd>{hasTimes(s) ? timeText(s, local) : "unknown"}</dd>
        <dt>Strict</dt>
        <dd>{s.strict ? "yes: queries that need it fail without it" : "no"}</dd>
        <dt>Label sets</dt>
        <dd>
          {s.labelSets.slice(0, 200).map((l, i) => (
            <div key={i}>
              <LabelSet labels={l} />
            </div>
          ))}
          {s.labelSets.length > 200 && <div>and {s.labelSets.length - 200} more</div>}
          {s.labelSets.length === 0 && "none"}
        </dd>
      </dl>
      <p class="row">
        <Link path="graph" search={print([newPanel({ storeMatch: [addressMatch(s.name)] })], 0)}>
          Query this store only
        </Link>
        {s.health !== "up" && <button onClick={forget}>Remove</button>}
      </p>
    </>
  );
}
