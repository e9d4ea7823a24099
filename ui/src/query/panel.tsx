import { useEffect, useRef, useState } from "preact/hooks";
import { call, message } from "../api/client";
import { ErrorNotice, MissingNotice, Notes } from "../components/notices";
import { plural } from "../lib/text";
import { Editor, type Doc } from "./editor";
import { Explain } from "./explain";
import { Graph } from "./graph";
import { Heatmap } from "./heatmap";
import { remember } from "./history";
import { HistoryDialog } from "./history-dialog";
import { Options } from "./options";
import type { Zoom } from "./plot";
import { ResultTable } from "./result-table";
import { isRanged, useRun, type Run } from "./run";
import { tabs, type PanelState, type Tab } from "./state";
import { Times } from "./times";

interface Props {
  panel: PanelState;
  /** The position on the page, from 1. */
  number: number;
  /** Runs the query again when it changes. */
  round: number;
  change(part: Partial<PanelState>): void;
  /** Removes the panel; undefined for the only one. */
  remove: (() => void) | undefined;
}

const titles: Record<Tab, string> = {
  table: "Table",
  graph: "Graph",
  stacked: "Stacked",
  heatmap: "Heatmap",
  explain: "Explain",
};

/** One query: editor, options, and the answer in the form of the tab. */
export function Panel({ panel, number, round, change, remove }: Props) {
  const [doc, setDoc] = useState<Doc>({ text: panel.expr });
  // What is typed renders nothing until it runs.
  const draft = useRef(panel.expr);
  const [again, setAgain] = useState(0);
  const [problem, setProblem] = useState<string>();
  const [past, setPast] = useState(false);
  const write = (text: string) => {
    draft.current = text;
    setDoc({ text });
  };
  // Another expression than the one that was run here is from the URL. What is typed in
  // the meantime stays.
  const known = useRef(panel.expr);
  useEffect(() => {
    if (known.current !== panel.expr) {
      known.current = panel.expr;
      write(panel.expr);
    }
  }, [panel.expr]);
  const run = useRun(panel, again, round);
  const current = useRef(panel);
  current.current = panel;
  const execute = (expr = draft.current) => {
    setProblem(undefined);
    known.current = expr;
    if (expr.trim() !== "") {
      remember(expr);
    }
    if (expr === panel.expr) {
      setAgain((n) => n + 1);
    } else {
      change({ expr });
    }
  };
  const format = () =>
    call<string>("format_query", { params: { query: draft.current } }).then(
      ({ data }) => (setProblem(undefined), write(data)),
      (e) => setProblem(message(e)),
    );
  return (
    <section class="panel" aria-label={`Query ${number}`}>
      <div class="editor-row">
        <Editor
          doc={doc}
          label={`PromQL expression of query ${number}`}
          panel={() => current.current}
          change={(text) => (draft.current = text)}
          run={() => execute()}
        />
        <div class="buttons">
          {run.status === "running" ? (
            <button class="primary" onClick={run.cancel}>
              Cancel
            </button>
          ) : (
            <button class="primary" onClick={() => execute()}>
              Run
            </button>
          )}
          <button onClick={format}>Format</button>
          <button onClick={() => setPast(true)}>History</button>
          {remove && (
            <button onClick={remove} aria-label={`Remove query ${number}`} title="Remove">
              ×
            </button>
          )}
        </div>
      </div>
      {past && (
        <HistoryDialog
          choose={(expr) => (write(expr), execute(expr))}
          close={() => setPast(false)}
        />
      )}
      {problem && <ErrorNotice text={problem} />}
      <Options panel={panel} change={change} />
      <div class="bar">
        <Tabs tab={panel.tab} id={panel.key} set={(tab) => change({ tab })} />
        <Times panel={panel} ranged={panel.tab === "explain" || isRanged(panel)} change={change} />
      </div>
      <div
        role="tabpanel"
        id={`result-${panel.key}`}
        aria-labelledby={`tab-${panel.key}-${panel.tab}`}
        aria-busy={run.status === "running"}
        class="result"
      >
        {panel.tab === "explain" ? (
          <Explain panel={panel} />
        ) : (
          <Result {...{ panel, run, change }} />
        )}
      </div>
    </section>
  );
}

interface TabsProps {
  tab: Tab;
  id: number;
  set(tab: Tab): void;
}

/** The forms of the answer; arrows move between them. */
function Tabs({ tab, id, set }: TabsProps) {
  const list = useRef<HTMLDivElement>(null);
  const key = (e: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (by) {
      e.preventDefault();
      const next = tabs[(tabs.indexOf(tab) + by + tabs.length) % tabs.length]!;
      set(next);
      list.current?.querySelector<HTMLElement>(`#tab-${id}-${next}`)?.focus();
    }
  };
  return (
    <div class="tabs" role="tablist" aria-label="Form of the answer" ref={list} onKeyDown={key}>
      {tabs.map((t) => (
        <button
          key={t}
          id={`tab-${id}-${t}`}
          role="tab"
          aria-selected={t === tab}
          aria-controls={`result-${id}`}
          tabIndex={t === tab ? 0 : -1}
          onClick={() => set(t)}
        >
          {titles[t]}
        </button>
      ))}
    </div>
  );
}

interface ResultProps {
  panel: PanelState;
  run: Run;
  change(part: Partial<PanelState>): void;
}

function Result({ panel, run, change }: ResultProps) {
  const zoom = useZoom(panel, change);
  const { answer, error, span } = run;
  const fits = run.ranged === isRanged(panel);
  const completeness = error?.completeness ?? answer?.completeness;
  const missing = answer?.completeness?.missing ?? [];
  // A missing store is in the warnings, too.
  const named = new Set(missing.map((m) => m.error).filter(Boolean));
  const warnings = (error?.warnings ?? answer?.warnings ?? []).filter((w) => !named.has(w));
  return (
    <>
      <Status run={run} />
      {error && <ErrorNotice text={`${error.type}: ${error.message}`} />}
      {completeness && <MissingNotice completeness={completeness} />}
      <Notes kind="warn" notes={warnings} />
      <Notes kind="info" notes={answer?.infos ?? []} />
      {fits && answer && answer.data.resultType !== "range" && <ResultTable result={answer.data} />}
      {fits && answer && span && answer.data.resultType === "range" && (
        <>
          {panel.tab === "heatmap" ? (
            <Heatmap result={answer.data.result} {...{ span, missing, zoom }} />
          ) : (
            <Graph
              result={answer.data.result}
              stacked={panel.tab === "stacked"}
              {...{ span, missing, zoom }}
            />
          )}
        </>
      )}
    </>
  );
}

/** Zooming keeps where it came from, for the way back. */
function useZoom(panel: PanelState, change: (part: Partial<PanelState>) => void): Zoom {
  const before = useRef<Pick<PanelState, "range" | "end">[]>([]);
  return {
    to(start, end) {
      before.current.push({ range: panel.range, end: panel.end });
      const range = Math.max(Math.round(end - start), 1000);
      change({ range, end: Math.round(end) });
    },
    back() {
      const last = before.current.pop();
      change(last ?? { range: panel.range * 2 });
    },
  };
}

/** What the query does, or how long it took, for screen readers, too. */
function Status({ run }: { run: Run }) {
  const { status, answer } = run;
  let text = "";
  if (status === "running") {
    text = "Running …";
  } else if (status === "cancelled") {
    text = "Cancelled";
  } else if (status === "idle") {
    text = "Write an expression and press Enter.";
  } else if (status === "done" && answer) {
    const { result, resultType } = answer.data;
    const what =
      resultType === "vector" || resultType === "matrix" || resultType === "range"
        ? plural(result.length, "series", "series")
        : resultType;
    const whole = answer.completeness?.complete ? "complete" : "";
    text = [what, `${Math.round(answer.millis)} ms`, whole].filter(Boolean).join(" · ");
  }
  return (
    <p class="status quiet" role="status" data-status={status}>
      {text}
    </p>
  );
}
