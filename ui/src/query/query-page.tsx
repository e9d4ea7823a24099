import { useEffect, useRef, useState } from "preact/hooks";
import { formatDuration, parseDuration } from "../lib/time";
import { here, navigate, usePlace } from "../router";
import { Panel } from "./panel";
import { newPanel, parse, print, refreshOf, type PanelState } from "./state";

const periods = ["0s", "5s", "10s", "30s", "1m", "5m", "15m"];

/** The page of queries. The URL always has the state of all panels. */
export default function QueryPage() {
  const { search } = usePlace();
  const written = useRef(search);
  const [panels, setPanels] = useState<PanelState[]>(() => parse(search));
  const [refresh, setRefresh] = useState(() => refreshOf(search));
  const [round, setRound] = useState(0);
  const period = formatDuration(refresh);
  // Back and forward, and links to this page, change the panels.
  useEffect(() => {
    if (search !== written.current) {
      written.current = search;
      setPanels((old) => parse(search).map((p, i) => ({ ...p, key: old[i]?.key ?? p.key })));
      setRefresh(refreshOf(search));
    }
  }, [search]);
  useEffect(() => {
    if (refresh > 0) {
      const timer = setInterval(() => document.hidden || setRound((n) => n + 1), refresh);
      return () => clearInterval(timer);
    }
  }, [refresh]);
  const update = (next: PanelState[], period = refresh) => {
    const first = panels.every((p) => p.expr === "");
    setPanels(next);
    setRefresh(period);
    written.current = print(next, period);
    navigate("graph", written.current, first && here().path !== "graph");
  };
  return (
    <>
      <h1 class="sr">Query</h1>
      {panels.map((panel, i) => (
        <Panel
          key={panel.key}
          panel={panel}
          number={i + 1}
          round={round}
          change={(part) =>
            update(panels.map((p) => (p.key === panel.key ? { ...p, ...part } : p)))
          }
          remove={panels.length > 1 ? () => update(panels.filter((p) => p !== panel)) : undefined}
        />
      ))}
      <div class="row">
        <button onClick={() => update([...panels, newPanel({ ...panels.at(-1), expr: "" })])}>
          Add a query
        </button>
        <label>
          Refresh{" "}
          <select
            value={period}
            onChange={(e) => update(panels, parseDuration(e.currentTarget.value) ?? 0)}
          >
            {(periods.includes(period) ? periods : [...periods, period]).map((p) => (
              <option key={p} value={p}>
                {p === "0s" ? "Off" : p}
              </option>
            ))}
          </select>
        </label>
        <Share panels={panels} />
      </div>
    </>
  );
}

/** Copies a link that shows the same times to others. */
function Share({ panels }: { panels: PanelState[] }) {
  const [link, setLink] = useState<string>();
  const copy = async () => {
    const now = Date.now();
    const fixed = panels.map((p) => ({ ...p, end: p.end ?? now }));
    const url = new URL(print(fixed, 0), location.href).href;
    setLink(url);
    // Browsers have no clipboard for pages without TLS.
    await navigator.clipboard?.writeText(url).catch(() => {});
  };
  return (
    <>
      <button onClick={copy}>Share</button>
      {link && (
        <input
          class="share"
          aria-label="Link to this page with its times"
          readOnly
          value={link}
          ref={(e) => e?.select()}
        />
      )}
    </>
  );
}
