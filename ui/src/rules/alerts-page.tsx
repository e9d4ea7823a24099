import { useMemo } from "preact/hooks";
import { LabelSet } from "../components/labels";
import {
  ListChoice,
  ListHead,
  partial,
  Tally,
  useList,
  useMatching,
} from "../components/list-page";
import { TenantField } from "../components/tenant-field";
import { VirtualTable, type Column } from "../components/virtual-table";
import { parseValue } from "../query/frame";
import { plural, seriesName, shortNumber, visible } from "../lib/text";
import { Annotations, Since } from "./alert-list";
import { stateClass, stateOrder, type Alert } from "./types";

const none: Alert[] = [];
const rank = (a: Alert) => stateOrder[a.state] ?? 1;
const nameOf = (a: Alert) => a.labels.alertname ?? "";

const columns: Column<Alert>[] = [
  {
    key: "name",
    title: "Alert",
    width: "minmax(9rem, 1fr)",
    cell: (a) => <b class="cut">{visible(nameOf(a)) || "(no name)"}</b>,
    compare: (a, b) => nameOf(a).localeCompare(nameOf(b)),
  },
  {
    key: "state",
    title: "State",
    width: "5rem",
    cell: (a) => <span class={stateClass[a.state] ?? "unknown"}>{a.state}</span>,
    compare: (a, b) => rank(a) - rank(b),
  },
  {
    key: "labels",
    title: "Labels",
    width: "minmax(10rem, 3fr)",
    cell: (a) => {
      const { alertname: _, ...labels } = a.labels;
      return (
        <span class="cut">
          <LabelSet labels={labels} />
        </span>
      );
    },
  },
  {
    key: "since",
    title: "Active since",
    width: "11.5rem",
    cell: (a) => <Since alert={a} />,
    compare: (a, b) => Date.parse(a.activeAt ?? "") - Date.parse(b.activeAt ?? ""),
  },
  {
    key: "value",
    title: "Value",
    width: "minmax(4rem, 7rem)",
    numeric: true,
    cell: (a) => <span title={visible(a.value)}>{shortNumber(parseValue(a.value))}</span>,
  },
];

/** The active alerts of all servers, those that fire first. */
export default function AlertsPage() {
  const list = useList<{ alerts: Alert[] }>("alerts", { params: partial }, 30e3);
  const state = list.get("state");
  const all = useMemo(
    () => list.answer?.data.alerts.toSorted((a, b) => rank(a) - rank(b)) ?? none,
    [list.answer],
  );
  const matching = useMatching(all, list.text, (a) =>
    [seriesName(a.labels), ...Object.values(a.annotations)].join(" "),
  );
  const rows = useMemo(
    () => matching.filter((a) => !state || a.state === state),
    [matching, state],
  );
  const n = (s: string) => all.filter((a) => a.state === s).length;
  return (
    <>
      <ListHead
        title="Alerts"
        list={list}
        filter="label, annotation"
        json="alerts"
        summary={
          <>
            {plural(all.length, "active alert")}
            {all.length > 0 && ": "}
            <Tally n={n("firing")} name="firing" kind="missing" />
            <Tally n={n("pending")} name="pending" kind="unknown" />
          </>
        }
      >
        <ListChoice list={list} label="State" values={["firing", "pending"]} />
      </ListHead>
      {list.answer && (
        <VirtualTable
          label="alerts"
          rows={rows}
          columns={columns}
          rowKey={(a) => JSON.stringify([a.labels, a.state, a.activeAt])}
          detail={(a) => (
            <>
              <LabelSet labels={a.labels} />
              <Annotations annotations={a.annotations} />
            </>
          )}
          empty={all.length > 0 ? "No alert matches." : "No alert is active."}
        />
      )}
      <TenantField list={list} />
    </>
  );
}
