import { useState } from "preact/hooks";
import { numberColumn, VirtualTable, type Column } from "../components/virtual-table";
import { count, plural, shortNumber, visible } from "../lib/text";
import { roughDuration } from "../lib/time";

interface Work {
  jobs: number;
  blocks: number;
  samples: number;
}

interface GroupWork {
  group: string;
  blocks: number;
  samples: number;
  merge: Work;
  downsample: Work;
}

/** The work until nothing is left to plan; null is unknown. */
export interface Backlog extends Omit<GroupWork, "group"> {
  groups: GroupWork[];
  groupsTotal: number;
  mergeSamplesPerSecond: number | null;
  downsampleSamplesPerSecond: number | null;
  inflowSamplesPerSecond: number;
  load: number | null;
  etaSeconds: number | null;
  keepsUp: "yes" | "no" | "unknown";
}

const verdicts = {
  yes: { text: "It keeps up with new data.", kind: "up" },
  no: { text: "It falls behind: new data comes faster than it is compacted.", kind: "missing" },
  unknown: {
    text: "Not known yet whether it keeps up: no job of each kind has ended.",
    kind: "quiet",
  },
};

function work(w: Work): string {
  return w.jobs === 0 ? "none" : `${plural(w.jobs, "job")}, ${shortNumber(w.samples)} samples`;
}

function rate(perSecond: number | null): string {
  return perSecond === null ? "unknown" : `${shortNumber(Math.round(perSecond))} samples/s`;
}

const columns: Column<GroupWork>[] = [
  {
    key: "group",
    title: "Group",
    width: "minmax(12rem, 2fr)",
    cell: (g) => <code class="wrap">{visible(g.group)}</code>,
    compare: (a, b) => a.group.localeCompare(b.group),
  },
  numberColumn("blocks", "Blocks", "5rem", (g) => g.blocks, count),
  {
    key: "merge",
    title: "To merge",
    width: "minmax(9rem, 1fr)",
    cell: (g) => work(g.merge),
    compare: (a, b) => a.merge.samples - b.merge.samples,
  },
  {
    key: "downsample",
    title: "To downsample",
    width: "minmax(9rem, 1fr)",
    cell: (g) => work(g.downsample),
    compare: (a, b) => a.downsample.samples - b.downsample.samples,
  },
];

/** Whether the compactor keeps up, how long its backlog takes, and whose it is. */
export function BacklogCards({ backlog: b }: { backlog: Backlog }) {
  const [open, setOpen] = useState(false);
  const verdict = verdicts[b.keepsUp] ?? verdicts.unknown;
  return (
    <section class="panel" aria-label="Backlog">
      <h2>Backlog</h2>
      <p class={verdict.kind} role="status">
        {verdict.text}
      </p>
      <dl class="columns">
        <dt>Blocks to process</dt>
        <dd>{count(b.blocks)}</dd>
        <dt>To merge</dt>
        <dd>{work(b.merge)}</dd>
        <dt>To downsample</dt>
        <dd>{work(b.downsample)}</dd>
        <dt>Done in about</dt>
        <dd>
          {b.etaSeconds === null
            ? b.keepsUp === "no"
              ? "never at this speed"
              : "unknown"
            : b.etaSeconds < 1
              ? "nothing left"
              : roughDuration(b.etaSeconds * 1000)}
        </dd>
        <dt>New data</dt>
        <dd>{rate(b.inflowSamplesPerSecond)}</dd>
        <dt>Merges, downsamples</dt>
        <dd>
          {rate(b.mergeSamplesPerSecond)}, {rate(b.downsampleSamplesPerSecond)}
        </dd>
        <dt>Time that new data needs</dt>
        <dd>{b.load === null ? "unknown" : `${(100 * b.load).toFixed(1)}%`}</dd>
      </dl>
      {b.groups.length > 0 && (
        <details class="options" onToggle={(e) => setOpen(e.currentTarget.open)}>
          <summary>
            {plural(b.groupsTotal, "group")} with work
            {b.groupsTotal > b.groups.length && `, the ${b.groups.length} with most of it`}
          </summary>
          {open && (
            <VirtualTable
              label="groups with work"
              rows={b.groups}
              columns={columns}
              rowKey={(g) => g.group}
            />
          )}
        </details>
      )}
    </section>
  );
}
