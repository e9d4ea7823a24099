import { useState } from "preact/hooks";
import { call, message } from "../api/client";
import { LabelSet } from "../components/labels";
import { ErrorNotice } from "../components/notices";
import { localTime } from "../lib/settings";
import { bytes, count, visible } from "../lib/text";
import { formatDuration, formatSecond } from "../lib/time";
import { BlockCardinality } from "./cardinality";
import type { Block } from "./model";

interface Props {
  block: Block;
  markable: boolean;
  reload(): void;
}

/** What is known of a block, and its marks. */
export function Detail({ block: b, markable, reload }: Props) {
  const local = localTime.use();
  const { meta } = b;
  return (
    <>
      {b.remarks.map((r) => (
        <p key={r.kind} class={`wrap ${r.bad ? "missing" : "unknown"}`}>
          {r.kind}: {visible(r.text)}
        </p>
      ))}
      <dl>
        {meta && (
          <>
            <dt>Times</dt>
            <dd>
              {formatSecond(meta.minTime, local)} to {formatSecond(meta.maxTime, local)},{" "}
              {formatDuration(meta.maxTime - meta.minTime)}
            </dd>
            <dt>Labels</dt>
            <dd>
              <LabelSet labels={meta.thanos.labels ?? {}} />
            </dd>
            <dt>Series, chunks, samples</dt>
            <dd>
              {count(meta.stats.numSeries ?? 0)}, {count(meta.stats.numChunks ?? 0)},{" "}
              {count(meta.stats.numSamples ?? 0)}
            </dd>
            <dt>Made by</dt>
            <dd>
              {visible(meta.thanos.source || "unknown")}, level {meta.compaction.level}, from{" "}
              {count(meta.compaction.sources?.length ?? 0)} sources
            </dd>
          </>
        )}
        <dt>Size</dt>
        <dd>{b.size === undefined ? "unknown" : bytes(b.size)}</dd>
      </dl>
      {markable && <Marking id={b.id} reload={reload} />}
      {meta && <BlockCardinality id={b.id} />}
      {meta && (
        <details class="options">
          <summary>meta.json</summary>
          <pre class="scroll">{visibleLines(JSON.stringify(meta, null, 2))}</pre>
        </details>
      )}
    </>
  );
}

/** visible, but with line breaks; long lists of sources are cut. */
function visibleLines(text: string): string {
  const lines = text.split("\n");
  const cut = lines.length > 500 ? [...lines.slice(0, 500), "…"] : lines;
  return cut.map(visible).join("\n");
}

function Marking({ id, reload }: { id: string; reload(): void }) {
  const [reason, setReason] = useState("");
  const [done, setDone] = useState("");
  const [problem, setProblem] = useState("");
  const mark = (action: string, question: string) => {
    if (!confirm(question)) {
      return;
    }
    setProblem("");
    call("blocks/mark", { method: "POST", params: { id, action, detail: reason } }).then(
      () => {
        setDone("The mark is written. The list shows it after the next listing of the bucket.");
        reload();
      },
      (e) => setProblem(message(e)),
    );
  };
  return (
    <>
      <div class="row">
        <input
          aria-label="Reason of the mark"
          placeholder="Reason"
          maxLength={1000}
          value={reason}
          onInput={(e) => setReason(e.currentTarget.value)}
        />
        <button onClick={() => mark("NO_COMPACTION", `Exclude block ${id} from compaction?`)}>
          Exclude from compaction
        </button>
        <button
          onClick={() =>
            mark(
              "DELETION",
              `Mark block ${id} for deletion? The compactor deletes its data after the delay of deletions.`,
            )
          }
        >
          Mark for deletion
        </button>
      </div>
      {done && <p role="status">{done}</p>}
      {problem && <ErrorNotice text={problem} />}
    </>
  );
}
