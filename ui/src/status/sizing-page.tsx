import { useEffect, useState } from "preact/hooks";
import { call, message } from "../api/client";
import { ErrorNotice } from "../components/notices";
import { VirtualTable, type Column } from "../components/virtual-table";
import { root } from "../env";
import { useParams } from "../lib/params";

/** One amount that a part of an installation needs. */
interface Need {
  part: string;
  resource: string;
  amount: number;
  text: string;
  from: string;
}

interface Field {
  /** The parameter, and the flag of `hindsight tools sizing`. */
  name: string;
  label: string;
  /** The default of the server. */
  initial: string;
}

const fields: Field[] = [
  { name: "series", label: "Active series, those of a pair once", initial: "1000000" },
  { name: "interval", label: "Interval of the scrapes", initial: "15s" },
  { name: "churn", label: "Series of a day for each active one", initial: "1.5" },
  { name: "sources", label: "Prometheus servers or pairs, or tenants", initial: "1" },
  { name: "replicas", label: "Servers of a pair", initial: "1" },
  { name: "receive.nodes", label: "Receive nodes, 0 with sidecars", initial: "0" },
  { name: "receive.replication-factor", label: "Nodes that store a series", initial: "3" },
  { name: "tsdb.retention", label: "Time on the disk of receivers", initial: "15d" },
  { name: "retention.resolution-raw", label: "Raw data in the bucket", initial: "30d" },
  { name: "retention.resolution-5m", label: "5m data in the bucket", initial: "180d" },
  { name: "retention.resolution-1h", label: "1h data in the bucket", initial: "2y" },
  { name: "bytes-per-sample", label: "Bytes of a raw sample, 0 as measured", initial: "0" },
];

const choices = [
  { name: "deduplicated", label: "The compactor merges replicas" },
  { name: "downsampling.disable", label: "No downsampling" },
];

const columns: Column<Need>[] = [
  {
    key: "part",
    title: "Part",
    width: "minmax(5rem, 8rem)",
    cell: (n) => n.part,
    compare: (a, b) => a.part.localeCompare(b.part),
  },
  {
    key: "resource",
    title: "Resource",
    width: "minmax(5rem, 10rem)",
    cell: (n) => n.resource,
    compare: (a, b) => a.resource.localeCompare(b.resource),
  },
  { key: "amount", title: "Needs", width: "minmax(5rem, 8rem)", cell: (n) => <b>{n.text}</b> },
  {
    key: "from",
    title: "Computed from",
    width: "minmax(10rem, 1fr)",
    cell: (n) => <span class="wrap">{n.from}</span>,
  },
];

const none: Need[] = [];

/** A calculator: what each role and the bucket need for a load, by measured figures. */
export default function SizingPage() {
  const [url, set] = useParams();
  const search = url.toString();
  const [state, setState] = useState<{ needs?: Need[]; error?: string }>({});
  useEffect(() => {
    const abort = new AbortController();
    const params: Record<string, string> = {};
    for (const { name } of [...fields, ...choices]) {
      const value = url.get(name);
      if (value) {
        params[name] = value;
      }
    }
    call<Need[]>("sizing", { params, signal: abort.signal }).then(
      (answer) => abort.signal.aborted || setState({ needs: answer.data }),
      (e) => abort.signal.aborted || setState({ error: message(e) }),
    );
    return () => abort.abort();
  }, [search]);
  return (
    <>
      <h1>Sizing</h1>
      <p class="quiet">
        What each role and the bucket need for a load, by measured figures. Of a role, the amount is
        that of one process. <code>hindsight tools sizing</code> computes the same.{" "}
        <a href={new URL(`api/v1/sizing${search && `?${search}`}`, root).href}>JSON</a>
      </p>
      <section class="panel" aria-label="Load">
        <div class="fields">
          {fields.map((f) => (
            <div class="field" key={f.name}>
              <label>
                {f.label}
                <input
                  name={f.name}
                  value={url.get(f.name) ?? f.initial}
                  onChange={(e) => {
                    const value = e.currentTarget.value.trim();
                    set({ [f.name]: value === f.initial ? "" : value });
                  }}
                />
              </label>
            </div>
          ))}
        </div>
        {choices.map((c) => (
          <label key={c.name} class="check">
            <input
              type="checkbox"
              name={c.name}
              checked={url.get(c.name) === "true"}
              onChange={(e) => set({ [c.name]: e.currentTarget.checked ? "true" : "" })}
            />
            {c.label}
          </label>
        ))}
      </section>
      {state.error && <ErrorNotice text={state.error} />}
      {!state.error && (
        <VirtualTable
          label="needs"
          rows={state.needs ?? none}
          columns={columns}
          rowKey={(n) => `${n.part} ${n.resource}`}
          empty="Loading …"
        />
      )}
    </>
  );
}
