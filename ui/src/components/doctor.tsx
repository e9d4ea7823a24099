import { usePolled } from "../api/use";
import { count, plural, visible } from "../lib/text";

/** What is wrong with a source or store; see docs/bucket-tools.md. */
interface Finding {
  severity: "error" | "warning";
  kind: string;
  subject: string;
  details: string;
  advice: string;
}

const titles: Record<string, string> = {
  clock_skew: "Clocks that differ",
  equal_labels: "Equal external labels",
  future_data: "Samples in the future",
  head_to_recover: "Logs to recover",
  labels_changed: "Changed external labels",
  missing_replica: "Replicas that are missing",
  no_external_labels: "No external labels",
  overlapping_blocks: "Blocks that overlap",
  replica_mismatch: "Replicas that do not match",
  stopped_shipping: "Sources that ship no more",
  store_warning: "Warnings of stores",
  unusable_block: "Blocks that cannot be used",
};

/** More findings of one kind are counted only. */
const shown = 20;

interface Props {
  /** The path of the findings, below api/v1/. */
  path: string;
  /** What the findings are about. */
  about: string;
  period: number;
  tenant: string;
}

/** What the doctor says of sources; stores that are missing are in their list already. */
export function Doctor({ path, about, period, tenant }: Props) {
  const { answer, error } = usePolled<{ findings: Finding[]; total?: number }>(
    path,
    { tenant },
    period,
  );
  const findings = answer?.data.findings.filter((f) => f.kind !== "store_unreachable") ?? [];
  if (error && !answer) {
    return <p class="quiet">The findings of the doctor are not known: {visible(error)}</p>;
  }
  if (findings.length === 0) {
    return null;
  }
  const severe = findings.filter((f) => f.severity === "error").length;
  const kinds = [...new Set(findings.map((f) => f.kind))];
  const more = (answer?.data.total ?? 0) - (answer?.data.findings.length ?? 0);
  return (
    <section class={`notice ${severe > 0 ? "bad" : "warn"}`} aria-label={`Findings about ${about}`}>
      <details>
        <summary>
          {plural(findings.length, "finding")} about {about}
          {severe > 0 && `, ${plural(severe, "error")}`}
        </summary>
        {kinds.map((kind) => (
          <Kind key={kind} kind={kind} findings={findings.filter((f) => f.kind === kind)} />
        ))}
        {more > 0 && <p>and {count(more)} more: see the output of tools doctor.</p>}
      </details>
    </section>
  );
}

function Kind({ kind, findings }: { kind: string; findings: Finding[] }) {
  const advice = [...new Set(findings.map((f) => f.advice))];
  return (
    <>
      <h4>{titles[kind] ?? visible(kind)}</h4>
      <ul>
        {findings.slice(0, shown).map((f, i) => (
          <li key={i} class="wrap">
            <code>{visible(f.subject)}</code>: {visible(f.details)}
          </li>
        ))}
        {findings.length > shown && <li>and {count(findings.length - shown)} more</li>}
      </ul>
      <p>To do: {visible(advice.slice(0, 3).join("; "))}.</p>
    </>
  );
}
