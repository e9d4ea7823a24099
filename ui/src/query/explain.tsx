import { useEffect, useMemo, useState } from "preact/hooks";
import { ApiError, call, message } from "../api/client";
import type { Execution, Explanation, QueryResult } from "../api/types";
import { ErrorNotice } from "../components/notices";
import { VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { plural, visible } from "../lib/text";
import { formatSecond, isOpenEnd, isOpenStart } from "../lib/time";
import { Costs, Selections } from "./execution";
import { code, List, Section } from "./parts";
import { queryParams, spanOf } from "./run";
import type { PanelState } from "./state";
import { parseTree, countOf, type TreeNode } from "./tree";

/** What a run has measured of a node. */
interface Measure {
  series?: number;
  samples?: number | undefined;
  error?: string;
}

/** What a run has measured of the whole expression, or why it failed. */
export type Analysis = Pick<Explanation, "execution" | "error" | "resultSeries" | "resultBytes">;

/** How the querier evaluates the expression over the range of the panel. */
export function Explain({ panel }: { panel: PanelState }) {
  const [plan, setPlan] = useState<{ data?: Explanation; error?: string }>({});
  const identity = JSON.stringify({ ...panel, key: 0, tab: "" });
  useEffect(() => {
    if (panel.expr.trim() === "") {
      setPlan({});
      return;
    }
    const abort = new AbortController();
    call<Explanation>("query_range_explain", {
      params: queryParams(panel, spanOf(panel), true),
      tenant: panel.tenant,
      signal: abort.signal,
    }).then(
      ({ data }) => setPlan({ data }),
      (e) => abort.signal.aborted || setPlan({ error: message(e) }),
    );
    return () => abort.abort();
  }, [identity]);
  if (panel.expr.trim() === "") {
    return <p class="quiet pad">Write an expression to see how it is evaluated.</p>;
  }
  return (
    <div class="explain">
      {plan.error && <ErrorNotice text={plan.error} />}
      <Measured key={identity} panel={panel} planned={plan.data?.execution} />
      {plan.data && <Plan plan={plan.data} />}
    </div>
  );
}

function Plan({ plan }: { plan: Explanation }) {
  const local = localTime.use();
  const pushed = plan.parts.length > 0;
  return (
    <>
      <Section title="Evaluation">
        <dl>
          <dt>Evaluator</dt>
          <dd>{visible(plan.evaluator)}</dd>
          <dt>Here</dt>
          <dd>
            <code>{visible(plan.here)}</code>
          </dd>
        </dl>
        {pushed && (
          <List
            head={["Part", "Evaluated by", "Merged here"]}
            rows={plan.parts.map((p) => [
              code(p.query),
              (p.stores ?? []).map(visible).join(", "),
              p.merged ? "yes" : "no",
            ])}
          />
        )}
      </Section>
      <Section title="Selectors">
        <List
          head={["Selector", "Function", "Coarsest resolution"]}
          rows={plan.selectors.map((s) => [
            code(s.selector),
            s.function || "–",
            s.maxResolution + (s.needsEverySample ? " (coarser data would be an estimate)" : ""),
          ])}
        />
      </Section>
      {plan.decisions && plan.decisions.length > 0 && (
        <Section title="Distribution">
          <List
            head={["Expression", "Pushed down", "Reason"]}
            rows={plan.decisions.map((d) => [
              code(d.expr ?? ""),
              d.pushed ? "yes" : "no",
              visible(d.reason ?? ""),
            ])}
          />
        </Section>
      )}
      {pushed && plan.stores && (
        <Section title="Who can evaluate parts">
          <VirtualTable
            label="stores that can evaluate parts"
            rows={plan.stores}
            columns={storeColumns(local)}
            rowKey={(s) => s.name}
          />
        </Section>
      )}
    </>
  );
}

type PlanStore = NonNullable<Explanation["stores"]>[number];

function storeColumns(local: boolean): Column<PlanStore>[] {
  const start = (t: number) => (isOpenStart(t) ? "the beginning" : formatSecond(t, local));
  const end = (t: number) => (isOpenEnd(t) ? "now" : formatSecond(t, local));
  const evaluates = (s: PlanStore) =>
    s.evaluatesNothingBecause ? `no: ${visible(s.evaluatesNothingBecause)}` : "yes";
  return [
    { key: "name", title: "Store", width: "minmax(10rem, 1fr)", cell: (s) => code(s.name) },
    { key: "from", title: "From", width: "11rem", cell: (s) => start(s.minTime) },
    { key: "to", title: "To", width: "11rem", cell: (s) => end(s.maxTime) },
    { key: "parts", title: "Evaluates parts", width: "minmax(8rem, 1fr)", cell: evaluates },
  ];
}

/** The tree of the expression; on request it runs the query and each of its nodes. */
function Measured({ panel, planned }: { panel: PanelState; planned: Execution | undefined }) {
  const tree = useMemo(() => parseTree(panel.expr), [panel.expr]);
  const [analysis, setAnalysis] = useState<Analysis>();
  const [measures, setMeasures] = useState<ReadonlyMap<number, Measure>>(new Map());
  const [abort, setAbort] = useState<AbortController>();
  useEffect(() => () => abort?.abort(), [abort]);
  const start = () => {
    const controller = new AbortController();
    setAbort(controller);
    setAnalysis(undefined);
    setMeasures(new Map());
    measure(panel, tree, controller.signal, setAnalysis, (id, m) =>
      setMeasures((old) => new Map(old).set(id, m)),
    ).finally(() => setAbort((now) => (now === controller ? undefined : now)));
  };
  const measured = analysis?.execution;
  const execution = measured ?? planned;
  return (
    <>
      <Section title="Expression">
        {tree ? <Tree node={tree} measures={measures} /> : <p class="bad">It has a mistake.</p>}
        {abort ? (
          <button onClick={() => setAbort(undefined)}>Cancel</button>
        ) : (
          <button onClick={start}>Run and measure each node</button>
        )}
        {analysis?.error && <ErrorNotice text={analysis.error} />}
      </Section>
      {measured && <Costs analysis={analysis} execution={measured} />}
      {execution && <Selections selections={execution.selections} analyzed={!!measured} />}
    </>
  );
}

/** At most so many nodes are measured, one after the other. */
const maxNodes = 50;

async function measure(
  panel: PanelState,
  tree: TreeNode | undefined,
  signal: AbortSignal,
  setAnalysis: (a: Analysis) => void,
  set: (id: number, m: Measure) => void,
): Promise<void> {
  const span = spanOf(panel);
  const run = (expr: string) =>
    call<QueryResult>("query", {
      params: { ...queryParams({ ...panel, expr }, span, false), stats: "1" },
      tenant: panel.tenant,
      signal,
    });
  await call<Explanation>("query_range_explain", {
    params: { ...queryParams(panel, span, true), analyze: "true" },
    tenant: panel.tenant,
    signal,
  }).then(
    ({ data }) => setAnalysis(data),
    (e) => signal.aborted || setAnalysis({ error: message(e) }),
  );
  const nodes = tree ? flatten(tree).slice(0, maxNodes) : [];
  for (const node of nodes) {
    const expr = countOf(node);
    if (signal.aborted || !expr) {
      continue;
    }
    try {
      const { data } = await run(expr);
      const first = data.resultType === "vector" ? data.result[0]?.value?.[1] : undefined;
      set(node.id, {
        series: Number(first ?? 0),
        samples: data.stats?.samples?.totalQueryableSamples,
      });
    } catch (e) {
      if (!signal.aborted) {
        set(node.id, { error: e instanceof ApiError ? e.message : message(e) });
      }
    }
  }
}

function flatten(node: TreeNode): TreeNode[] {
  return [node, ...node.children.flatMap(flatten)];
}

function Tree({ node, measures }: { node: TreeNode; measures: ReadonlyMap<number, Measure> }) {
  const m = measures.get(node.id);
  return (
    <ul class="tree">
      <li>
        <span class="node">
          <span class="kind">{node.kind}</span> <code>{visible(node.text)}</code>
          {m?.series !== undefined && (
            <span class="measure">
              {plural(m.series, "series", "series")}
              {m.samples !== undefined && `, ${plural(m.samples, "sample")}`}
            </span>
          )}
          {m?.error && <span class="bad">{visible(m.error)}</span>}
        </span>
        {node.children.map((c) => (
          <Tree key={c.id} node={c} measures={measures} />
        ))}
      </li>
    </ul>
  );
}
