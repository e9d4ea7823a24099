import { useMemo } from "preact/hooks";
import { LabelSet } from "../components/labels";
import { numberColumn, VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { bytes, count, plural } from "../lib/text";
import { formatSecond } from "../lib/time";
import { compare, lanesOf, type Group, type Piece, type Span } from "./model";

interface Props {
  groups: Group[];
  span: Span;
  selected: string;
  /** Shows the blocks of a group, of some times of it; "" shows all groups. */
  select(group: string, times?: Span): void;
}

/** One row for each group, with a lane for each level of compaction. */
export function Timeline({ groups, span, selected, select }: Props) {
  const local = localTime.use();
  const columns: Column<Group>[] = [
    {
      key: "group",
      title: "Group",
      width: "minmax(10rem, 2fr)",
      cell: (g) => (
        <button
          class="expand"
          aria-pressed={g.key === selected}
          onClick={() => select(g.key === selected ? "" : g.key)}
          onKeyDown={(e) => e.key === "ArrowRight" && toPiece(e, piecesOf(e.currentTarget)[0])}
        >
          <span aria-hidden="true">{g.key === selected ? "●" : "○"}</span>
          <LabelSet labels={g.labels} />
        </button>
      ),
      compare: (a, b) => compare(a.key, b.key),
    },
    {
      key: "resolution",
      title: "Resolution",
      width: "5.5rem",
      cell: (g) => g.resolution,
      compare: (a, b) => compare(a.resolution, b.resolution),
    },
    numberColumn("count", "Blocks", "4rem", (g) => g.blocks.length, count),
    {
      key: "size",
      title: "Size",
      width: "5.5rem",
      numeric: true,
      cell: (g) => (g.blocks.some((b) => b.size !== undefined) ? bytes(g.size) : "unknown"),
      compare: (a, b) => a.size - b.size,
    },
    {
      key: "times",
      label: "Times",
      title: (
        <span class="axis">
          <span>{formatSecond(span.from, local).slice(0, 16)}</span>
          <span>{formatSecond(span.to, local).slice(0, 16)}</span>
        </span>
      ),
      width: "minmax(12rem, 3fr)",
      cell: (g) => <Lanes group={g} span={span} local={local} select={select} />,
    },
  ];
  return (
    <div class="timeline">
      <VirtualTable
        label="groups of blocks"
        rows={groups}
        columns={columns}
        rowKey={(g) => g.key}
        empty="No group matches."
      />
    </div>
  );
}

interface LanesProps {
  group: Group;
  span: Span;
  local: boolean;
  select(group: string, times?: Span): void;
}

function Lanes({ group, span, local, select }: LanesProps) {
  const lanes = useMemo(() => lanesOf(group.blocks, span), [group, span.from, span.to]);
  return (
    <div class="lanes" onKeyDown={movePiece}>
      {lanes.map(({ level, pieces }) => (
        <div key={level} class="lane" title={`Level ${level}`}>
          {pieces.map((p) => (
            <button
              key={p.blocks[0]?.id}
              tabIndex={-1}
              class={`level l${Math.min(level, 5)}${p.blocks.some(isBad) ? " bad" : ""}`}
              style={{ left: `${p.left}%`, width: `${p.width}%` }}
              title={describe(p, level, local)}
              aria-label={describe(p, level, local)}
              onClick={() => select(group.key, timesOf(p))}
            />
          ))}
        </div>
      ))}
      <span class="sr">
        {lanes.map((l) => `${count(l.pieces.length)} at level ${l.level}`).join(", ")}
      </span>
    </div>
  );
}

/** The parts of the lanes in the row of an element, by level and time. */
function piecesOf(e: Element): HTMLElement[] {
  return [...(e.closest(".vrow")?.querySelectorAll<HTMLElement>(".level") ?? [])];
}

function toPiece(e: KeyboardEvent, to: HTMLElement | null | undefined): void {
  if (to) {
    e.preventDefault();
    e.stopPropagation();
    to.focus();
  }
}

/**
 * Moves between the parts of the lanes of a row, which the right arrow enters from the
 * name of the group: they are no stops of the Tab key, as a bucket has thousands. The
 * left arrow on the first one, and Escape, return to the name.
 */
function movePiece(e: KeyboardEvent): void {
  const from = e.target as HTMLElement;
  const pieces = piecesOf(from);
  const at = pieces.indexOf(from);
  if (at < 0 || e.ctrlKey || e.altKey || e.metaKey) {
    return;
  }
  const name = from.closest(".vrow")?.querySelector<HTMLElement>(".expand");
  const lane = (side: "previousElementSibling" | "nextElementSibling") => {
    const other = from.closest(".lane")?.[side];
    const x = (p: Element) => Math.abs(parseFloat((p as HTMLElement).style.left) - left);
    const left = parseFloat(from.style.left);
    return [...(other?.querySelectorAll<HTMLElement>(".level") ?? [])].sort(
      (a, b) => x(a) - x(b),
    )[0];
  };
  const to = {
    ArrowRight: () => pieces[at + 1],
    ArrowLeft: () => pieces[at - 1] ?? name,
    ArrowUp: () => lane("previousElementSibling"),
    ArrowDown: () => lane("nextElementSibling"),
    Home: () => pieces[0],
    End: () => pieces.at(-1),
    Escape: () => name,
  }[e.key];
  if (to) {
    e.preventDefault();
    toPiece(e, to());
  }
}

function isBad(b: Group["blocks"][number]): boolean {
  return b.remarks.some((r) => r.bad);
}

function timesOf(p: Piece): Span {
  return {
    from: Math.min(...p.blocks.map((b) => b.meta?.minTime ?? 0)),
    to: Math.max(...p.blocks.map((b) => b.meta?.maxTime ?? 0)),
  };
}

function describe(p: Piece, level: number, local: boolean): string {
  const { from, to } = timesOf(p);
  const first = p.blocks[0];
  const name = p.blocks.length === 1 && first ? first.id : plural(p.blocks.length, "block");
  return `${name}, level ${level}, ${formatSecond(from, local)} to ${formatSecond(to, local)}`;
}
