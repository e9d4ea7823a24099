import { useMemo } from "preact/hooks";
import { Expression } from "../components/expression";
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
import { numberColumn, VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { plural, seriesName, visible } from "../lib/text";
import { formatSecond } from "../lib/time";
import { seconds } from "../queries/seconds";
import { AlertList, Annotations } from "./alert-list";
import { stateClass, stateOrder, type Group, type Rule } from "./types";

interface Row {
  key: string;
  group: Group;
  rule: Rule;
}

const none: Row[] = [];

/** The state of an alerting rule; "recording" for other ones, "failed" for failed ones. */
function stateOf({ rule }: Row): string {
  if (rule.health === "err" || rule.lastError) {
    return "failed";
  }
  return rule.state ?? "recording";
}

const states = ["failed", "firing", "pending", "inactive", "recording"];

function rank(row: Row): number {
  const state = stateOf(row);
  return state === "failed" ? -1 : (stateOrder[state] ?? 3);
}

function State({ row }: { row: Row }) {
  const state = stateOf(row);
  return <span class={state === "failed" ? "bad" : stateClass[state]}>{state}</span>;
}

const columns: Column<Row>[] = [
  {
    key: "name",
    title: "Rule",
    width: "minmax(10rem, 2fr)",
    cell: (r) => <b class="cut">{visible(r.rule.name)}</b>,
    compare: (a, b) => a.rule.name.localeCompare(b.rule.name),
  },
  {
    key: "group",
    title: "Group",
    width: "minmax(6rem, 1fr)",
    cell: (r) => <span class="cut">{visible(r.group.name)}</span>,
    compare: (a, b) => a.group.name.localeCompare(b.group.name),
  },
  {
    key: "state",
    title: "State",
    width: "6rem",
    cell: (r) => <State row={r} />,
    compare: (a, b) => rank(a) - rank(b),
  },
  {
    key: "query",
    title: "Expression",
    width: "minmax(10rem, 3fr)",
    cell: (r) => <code class="cut">{visible(r.rule.query)}</code>,
  },
  numberColumn("took", "Took", "4.5rem", (r) => r.rule.evaluationTime, seconds),
];

/** Each rule with its group; the order of equal states is that of the server. */
function flatten(groups: Group[]): Row[] {
  return groups
    .flatMap((group) =>
      group.rules.map((rule, i) => ({
        key: JSON.stringify([group.file, group.name, i]),
        group,
        rule,
      })),
    )
    .sort((a, b) => rank(a) - rank(b));
}

/** The rules of all servers, with replicas merged: failed and firing ones first. */
export default function RulesPage() {
  const list = useList<{ groups: Group[] }>("rules", { params: partial }, 30e3);
  const state = list.get("state");
  const all = useMemo(() => (list.answer ? flatten(list.answer.data.groups) : none), [list.answer]);
  const matching = useMatching(all, list.text, ({ rule, group }) =>
    [
      rule.name,
      group.name,
      group.file,
      rule.query,
      seriesName(rule.labels),
      rule.lastError ?? "",
    ].join(" "),
  );
  const rows = useMemo(
    () => matching.filter((r) => !state || stateOf(r) === state),
    [matching, state],
  );
  const n = (s: string) => all.filter((r) => stateOf(r) === s).length;
  return (
    <>
      <ListHead
        title="Rules"
        list={list}
        filter="name, group, expression, label"
        json="rules"
        summary={
          <>
            {plural(all.length, "rule")} in {plural(list.answer?.data.groups.length ?? 0, "group")}{" "}
            <Tally n={n("failed")} name="failed" kind="bad" />
            <Tally n={n("firing")} name="firing" kind="missing" />
            <Tally n={n("pending")} name="pending" kind="unknown" />
          </>
        }
      >
        <ListChoice list={list} label="State" values={states} />
      </ListHead>
      {list.answer && (
        <VirtualTable
          label="rules"
          rows={rows}
          columns={columns}
          rowKey={(r) => r.key}
          detail={(r) => <Detail row={r} />}
          empty={all.length > 0 ? "No rule matches." : "No server behind this querier has rules."}
        />
      )}
      <TenantField list={list} />
    </>
  );
}

function Detail({ row: { rule, group } }: { row: Row }) {
  const local = localTime.use();
  const last = Date.parse(rule.lastEvaluation);
  return (
    <>
      {rule.lastError && <p class="bad wrap">{visible(rule.lastError)}</p>}
      <Expression expr={rule.query} />
      <dl>
        <dt>Group</dt>
        <dd>
          {visible(group.name)} in {visible(group.file)}, evaluated every {seconds(group.interval)}
        </dd>
        <dt>Labels</dt>
        <dd>
          <LabelSet labels={rule.labels} />
        </dd>
        {rule.type === "alerting" && (
          <>
            <dt>Pending for</dt>
            <dd>{seconds(rule.duration ?? 0)}</dd>
          </>
        )}
        <dt>Last evaluation</dt>
        <dd>{last > 0 ? formatSecond(last, local) : "none yet"}</dd>
      </dl>
      {rule.annotations && <Annotations annotations={rule.annotations} />}
      {rule.alerts && rule.alerts.length > 0 && <AlertList alerts={rule.alerts} />}
    </>
  );
}
