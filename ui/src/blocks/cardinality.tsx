import { useState } from "preact/hooks";
import { usePolled } from "../api/use";
import { ErrorNotice } from "../components/notices";
import { Share } from "../components/share";
import { root } from "../env";
import { bytes, plural, shortNumber, visible } from "../lib/text";

/** What one metric, label or pair takes; see pkg/blockstat.Row. */
interface Row {
  by: string;
  name: string;
  values?: number;
  series: number;
  samples: number;
  chunk_bytes: number;
  index_bytes: number;
  churn: number;
}

/** The data of /api/v1/blocks/cardinality. */
interface Answer {
  blocks: string[];
  indexBytes: number;
  sources: number;
  omitted: number;
  unreadable: number;
  error?: string;
  rows: Row[];
}

/**
 * Which metrics and labels the series of a block have, or, without an id, those of the
 * newest block of each source. The server reads indexes for it, so only on request.
 */
export function BlockCardinality({ id }: { id?: string }) {
  const [open, setOpen] = useState(false);
  return (
    <details class="options" onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>
        {id ? "Cardinality" : "Cardinality of the bucket: the newest raw block of each source"}
      </summary>
      {open && <Loaded id={id} />}
    </details>
  );
}

const limit = "20";

const kinds = [
  { by: "metric", title: "Largest metrics" },
  { by: "label", title: "Largest labels" },
  { by: "label_value", title: "Largest labels with their values" },
];

function Loaded({ id }: { id: string | undefined }) {
  const params = { id, limit };
  const { answer, error } = usePolled<Answer>("blocks/cardinality", { params }, 0);
  if (error) {
    return <ErrorNotice text={error} />;
  }
  if (!answer) {
    return <p class="quiet">Reading the index …</p>;
  }
  const { rows, blocks, indexBytes, sources, omitted, unreadable } = answer.data;
  const total = rows.find((r) => r.by === "total");
  const url = new URL(`api/v1/blocks/cardinality${id ? `?id=${id}` : ""}`, root).href;
  return (
    <>
      <p>
        {plural(total?.series ?? 0, "series", "series")}, {bytes(total?.chunk_bytes ?? 0)} of
        chunks, {bytes(indexBytes)} of {blocks.length === 1 ? "index" : "indexes"}
        {sources > 0 &&
          ` in the newest blocks of ${plural(sources - omitted - unreadable, "source")}`}
        {omitted > 0 && <span class="unknown">, {plural(omitted, "source")} left out</span>} ·{" "}
        <a href={url}>JSON</a>
      </p>
      {unreadable > 0 && (
        <p class="missing wrap">
          {plural(unreadable, "source")} could not be read: {visible(answer.data.error ?? "")}
        </p>
      )}
      <div class="cards">
        {kinds.map(({ by, title }) => (
          <Rows key={by} title={title} total={total} rows={rows.filter((r) => r.by === by)} />
        ))}
      </div>
    </>
  );
}

interface RowsProps {
  title: string;
  total: Row | undefined;
  rows: Row[];
}

function Rows({ title, total, rows }: RowsProps) {
  return (
    <section aria-label={title}>
      <h4>{title}</h4>
      <ol class="top-list">
        {rows.slice(0, Number(limit)).map((r, i) => (
          <li key={i}>
            <code>{visible(r.name) || "(no name)"}</code>
            <Share
              value={r.series}
              all={total?.series ?? 0}
              of={[
                r.values && plural(r.values, "value"),
                plural(r.series, "series", "series"),
                r.samples === 1 ? "1 sample" : `${shortNumber(r.samples)} samples`,
                bytes(r.chunk_bytes + r.index_bytes),
              ]
                .filter(Boolean)
                .join(", ")}
            />
          </li>
        ))}
      </ol>
    </section>
  );
}
