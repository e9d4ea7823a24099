import { useMemo } from "preact/hooks";
import { usePolled } from "../api/use";
import { Choose } from "../components/choose";
import { Doctor } from "../components/doctor";
import { CallState, ErrorNotice } from "../components/notices";
import { Search } from "../components/search";
import { VirtualTable, type Column } from "../components/virtual-table";
import { root } from "../env";
import { useParams } from "../lib/params";
import { localTime } from "../lib/settings";
import { bytes, count, plural } from "../lib/text";
import { formatDuration, formatSecond } from "../lib/time";
import { BlockCardinality } from "./cardinality";
import { Detail } from "./detail";
import { blocksOf, compare, groupsOf, spanOf, type Block, type BlockList } from "./model";
import { Timeline } from "./timeline";
import "./blocks.css";

const period = 60e3;

/** The blocks of a bucket: a timeline of their groups, and a list. */
export default function BlocksPage() {
  const { answer, error, reload } = usePolled<BlockList>("blocks", {}, period);
  const blocks = useMemo(() => (answer ? blocksOf(answer.data) : []), [answer]);
  return (
    <>
      <h1>Blocks</h1>
      <CallState answer={answer} error={error} />
      {answer?.data.err && <ErrorNotice text={answer.data.err} />}
      {answer && <Content list={answer.data} blocks={blocks} reload={reload} />}
    </>
  );
}

interface ContentProps {
  list: BlockList;
  blocks: Block[];
  reload(): void;
}

function Content({ list, blocks, reload }: ContentProps) {
  const [params, set] = useParams();
  const get = (name: string) => params.get(name) ?? "";
  const found = useMemo(() => filtered(blocks, params), [blocks, params.toString()]);
  const groups = useMemo(() => groupsOf(found), [found]);
  const span = useMemo(() => spanOf(found), [found]);
  const group = get("group");
  const [from, to] = [Number(get("from")), Number(get("to"))];
  const shown = useMemo(
    () =>
      found.filter(
        (b) =>
          (!group || b.group === group) &&
          (!to || (b.meta !== undefined && b.meta.minTime < to && b.meta.maxTime > from)),
      ),
    [found, group, from, to],
  );
  const kinds = [...new Set(blocks.flatMap((b) => b.remarks.map((r) => r.kind)))].sort(compare);
  const levels = [...new Set(blocks.map((b) => b.level))].sort((a, b) => a - b).map(String);
  return (
    <>
      <Summary list={list} blocks={blocks} />
      <Doctor path="blocks/findings" about="the sources of the bucket" period={period} tenant="" />
      <div class="row">
        <Search
          label="Filter blocks"
          placeholder="Filter by name, label, reason"
          value={get("q")}
          set={(q) => set({ q })}
        />
        <Choose
          label="Resolution"
          value={get("resolution")}
          values={[...new Set(blocks.map((b) => b.resolution))].sort(compare)}
          set={(resolution) => set({ resolution })}
        />
        <Choose
          label="Level"
          value={get("level")}
          values={levels}
          set={(level) => set({ level })}
        />
        <Choose label="State" value={get("state")} values={kinds} set={(state) => set({ state })} />
        <button onClick={reload}>Refresh</button>
        <a href={new URL("api/v1/blocks", root).href}>JSON</a>
      </div>
      <BlockCardinality />
      <Timeline
        groups={groups}
        span={span}
        selected={group}
        select={(key, times) =>
          set({ group: key, from: times ? `${times.from}` : "", to: times ? `${times.to}` : "" })
        }
      />
      <p role="status" class="row">
        {plural(shown.length, "block")}
        {(group || to > 0) && (
          <button onClick={() => set({ group: "", from: "", to: "" })}>Show all groups</button>
        )}
      </p>
      <Table blocks={shown} markable={list.markable} reload={reload} />
    </>
  );
}

function filtered(blocks: Block[], params: URLSearchParams): Block[] {
  const text = (params.get("q") ?? "").toLowerCase();
  const [resolution, level, state] = ["resolution", "level", "state"].map((n) => params.get(n));
  return blocks.filter(
    (b) =>
      (!text || b.text.includes(text)) &&
      (!resolution || b.resolution === resolution) &&
      (!level || String(b.level) === level) &&
      (!state || b.remarks.some((r) => r.kind === state)),
  );
}

function Summary({ list, blocks }: { list: BlockList; blocks: Block[] }) {
  const local = localTime.use();
  const at = Date.parse(list.refreshedAt);
  if (!(at > 0)) {
    return <p role="status">The bucket has not been listed yet.</p>;
  }
  const size = blocks.reduce((sum, b) => sum + (b.size ?? 0), 0);
  const known = blocks.length === 0 || blocks.some((b) => b.size !== undefined);
  const bad = blocks.filter((b) => b.remarks.some((r) => r.bad)).length;
  return (
    <p>
      {plural(blocks.length, "block")}, {known ? bytes(size) : "sizes unknown"}, as listed at{" "}
      {formatSecond(at, local)}
      {bad > 0 && <span class="missing"> · {count(bad)} to look at</span>}
    </p>
  );
}

function Table({ blocks, markable, reload }: Omit<ContentProps, "list"> & { markable: boolean }) {
  const local = localTime.use();
  const columns: Column<Block>[] = [
    {
      key: "id",
      title: "Block",
      width: "minmax(16rem, 1.2fr)",
      cell: (b) => <code class="cut">{b.id}</code>,
      compare: (a, b) => compare(a.id, b.id),
    },
    {
      key: "from",
      title: "From",
      width: "12rem",
      cell: (b) => (b.meta ? formatSecond(b.meta.minTime, local) : "unknown"),
      compare: (a, b) => (a.meta?.minTime ?? 0) - (b.meta?.minTime ?? 0),
    },
    {
      key: "length",
      title: "Length",
      width: "5rem",
      numeric: true,
      cell: (b) => b.meta && formatDuration(b.meta.maxTime - b.meta.minTime).slice(0, 12),
      compare: (a, b) => length(a) - length(b),
    },
    {
      key: "resolution",
      title: "Resolution",
      width: "5.5rem",
      cell: (b) => b.resolution,
      compare: (a, b) => compare(a.resolution, b.resolution),
    },
    {
      key: "level",
      title: "Level",
      width: "3.5rem",
      numeric: true,
      cell: (b) => b.level || "",
      compare: (a, b) => a.level - b.level,
    },
    {
      key: "size",
      title: "Size",
      width: "5.5rem",
      numeric: true,
      cell: (b) => (b.size === undefined ? "" : bytes(b.size)),
      compare: (a, b) => (a.size ?? 0) - (b.size ?? 0),
    },
    {
      key: "state",
      title: "State",
      width: "minmax(8rem, 1fr)",
      cell: (b) =>
        b.remarks.map((r) => (
          <div key={r.kind} class={r.bad ? "missing" : "unknown"}>
            {r.kind}
          </div>
        )),
      compare: (a, b) => a.remarks.length - b.remarks.length,
    },
  ];
  return (
    <VirtualTable
      label="blocks"
      rows={blocks}
      columns={columns}
      rowKey={(b) => b.id}
      detail={(b) => <Detail block={b} markable={markable} reload={reload} />}
      empty="No block matches."
    />
  );
}

function length(b: Block): number {
  return b.meta ? b.meta.maxTime - b.meta.minTime : 0;
}
