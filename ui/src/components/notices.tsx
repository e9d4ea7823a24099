import type { Completeness, Missing } from "../api/types";
import { root } from "../env";
import { formatSecond } from "../lib/time";
import { localTime } from "../lib/settings";
import { plural, visible } from "../lib/text";
import { LabelSet } from "./labels";

/** What the reasons of missing stores mean; see pkg/reason/store.go. */
export const storeReasons: Record<string, string> = {
  store_never_reached: "has not answered since this querier started",
  store_not_found: "is configured, but no address was found",
  store_down: "is down",
  store_timeout: "took too long",
  store_failed: "failed",
  store_limit: "ran into a limit",
  store_invalid_data: "sent invalid data",
  store_warning: "sent a warning",
  store_in_loop: "is a querier that asks this one",
  store_asked_elsewhere: "is asked by another querier",
  store_is_self: "is this querier",
  store_other_times: "has no data of these times",
  store_other_labels: "has no label set that matches",
  store_filtered: "is left out by the configuration or the store filter",
  store_without_series: "serves no series",
};

/** The stores that an answer lacks, with the data that they had. */
export function MissingNotice({ completeness }: { completeness: Completeness }) {
  const missing = completeness.missing ?? [];
  const skipped = completeness.skipped ?? [];
  if (missing.length === 0) {
    return null;
  }
  const all = missing.length + (completeness.more ?? 0);
  return (
    <section class="notice warn" aria-label="Missing from this answer">
      <details open={missing.length <= 3}>
        <summary>
          <b>This answer is incomplete:</b> {plural(all, "store is", "stores are")} missing
        </summary>
        <ul>
          {missing.map((m, i) => (
            <MissingStore key={i} missing={m} />
          ))}
        </ul>
        {completeness.more ? <p>… and {plural(completeness.more, "more entry", "more")}.</p> : null}
        {skipped.length > 0 && (
          <p class="quiet">
            Not asked, without loss: {skipped.map((s) => visible(s.store)).join(", ")}.
          </p>
        )}
      </details>
    </section>
  );
}

function MissingStore({ missing: m }: { missing: Missing }) {
  const local = localTime.use();
  return (
    <li>
      <code>{visible(m.store || "a store")}</code> {storeReasons[m.reason] ?? visible(m.reason)}
      {m.mint !== undefined && m.maxt !== undefined && (
        <>
          , with data from {formatSecond(m.mint, local)} to {formatSecond(m.maxt, local)}
        </>
      )}
      {m.labels?.map((l, i) => (
        <div key={i}>
          <LabelSet labels={l} />
        </div>
      ))}
      {m.error && <div class="quiet wrap">{visible(m.error)}</div>}
    </li>
  );
}

/** Warnings or infos, each once. */
export function Notes({ kind, notes }: { kind: "warn" | "info"; notes: string[] }) {
  if (notes.length === 0) {
    return null;
  }
  const title = kind === "warn" ? "warning" : "note";
  return (
    <section class={`notice ${kind}`} aria-label={`${title}s`}>
      <details open={notes.length <= 2}>
        <summary>{plural(notes.length, title)}</summary>
        <ul>
          {notes.map((note) => (
            <li class="wrap" key={note}>
              {visible(note)}
            </li>
          ))}
        </ul>
      </details>
    </section>
  );
}

/** Why the last call for a list failed, or that the first one has no answer yet. */
export function CallState({ answer, error }: { answer?: unknown; error?: string }) {
  if (error) {
    return <ErrorNotice text={answer ? `The list may be old: ${error}` : error} />;
  }
  return answer ? null : <p class="quiet">Loading …</p>;
}

/** An error, which screen readers read at once. */
export function ErrorNotice({ text }: { text: string }) {
  return (
    <section class="notice bad wrap" role="alert">
      <Explained text={text} />
    </section>
  );
}

/** The text of an error; the id at its end leads to the page that explains it. */
function Explained({ text }: { text: string }) {
  const match = /^([^]*) \[(hs-[a-z0-9-]{1,61})\]$/.exec(text);
  if (!match) {
    return <>{visible(text)}</>;
  }
  return (
    <>
      {visible(match[1]!)} <a href={new URL(`errors/${match[2]}`, root).href}>{match[2]}</a>
    </>
  );
}
