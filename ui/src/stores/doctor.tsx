import { usePolled } from "../api/use";
import { plural, visible } from "../lib/text";

/** What is wrong with the labels or times of a store; see /api/v1/stores/findings. */
interface Finding {
  severity: "error" | "warning";
  kind: string;
  subject: string;
  details: string;
  advice: string;
}

const titles: Record<string, string> = {
  equal_labels: "Equal external labels",
  no_external_labels: "No external labels",
  future_data: "Samples in the future",
  store_warning: "Warnings of stores",
};

/** More findings of one kind are counted only. */
const shown = 20;

/** What the doctor says of the stores; those that are missing are in the list already. */
export function Doctor({ period, tenant }: { period: number; tenant: string }) {
  const { answer } = usePolled<{ findings: Finding[] }>("stores/findings", { tenant }, period);
  const findings = answer?.data.findings.filter((f) => f.kind !== "store_unreachable") ?? [];
  if (findings.length === 0) {
    return null;
  }
  const severe = findings.filter((f) => f.severity === "error").length;
  const kinds = [...new Set(findings.map((f) => f.kind))];
  return (
    <section
      class={`notice ${severe > 0 ? "bad" : "warn"}`}
      aria-label="Findings about external labels"
    >
      <details>
        <summary>
          {plural(findings.length, "finding")} about labels and times
          {severe > 0 && `, ${plural(severe, "error")}`}
        </summary>
        {kinds.map((kind) => (
          <Kind key={kind} kind={kind} findings={findings.filter((f) => f.kind === kind)} />
        ))}
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
        {findings.length > shown && <li>and {findings.length - shown} more</li>}
      </ul>
      <p>To do: {visible(advice.slice(0, 3).join("; "))}.</p>
    </>
  );
}
