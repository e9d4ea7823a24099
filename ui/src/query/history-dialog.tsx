import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { localTime } from "../lib/settings";
import { visible } from "../lib/text";
import { formatTime } from "../lib/time";
import { entries, forget } from "./history";

interface Props {
  choose(expr: string): void;
  close(): void;
}

/** The expressions that ran in this browser, newest first. */
export function HistoryDialog({ choose, close }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const local = localTime.use();
  const [filter, setFilter] = useState("");
  const [all, setAll] = useState(entries);
  // Before anybody can choose: a dialog that is not open yet does not close.
  useLayoutEffect(() => dialog.current?.showModal(), []);
  const shown = all.filter((e) => e.expr.toLowerCase().includes(filter.toLowerCase()));
  return (
    <dialog ref={dialog} onClose={close} aria-label="History of expressions">
      <div class="row">
        <input
          type="search"
          placeholder="Filter"
          aria-label="Filter the history"
          value={filter}
          onInput={(e) => setFilter(e.currentTarget.value)}
        />
        <button onClick={() => (forget(), setAll([]))}>Clear</button>
        <button onClick={() => dialog.current?.close()}>Close</button>
      </div>
      <ul class="history">
        {shown.map((e) => (
          <li key={e.expr}>
            <button onClick={() => (choose(e.expr), dialog.current?.close())}>
              <code>{visible(e.expr)}</code>
              <span class="quiet">{formatTime(e.at, local).slice(0, 19)}</span>
            </button>
          </li>
        ))}
        {shown.length === 0 && <li class="quiet">There are none.</li>}
      </ul>
    </dialog>
  );
}
