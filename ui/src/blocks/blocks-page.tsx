import { useMemo } from "preact/hooks";
import { Doctor } from "../components/doctor";
import { ListChoice, ListHead, useList, type List } from "../components/list-page";
import { ErrorNotice } from "../components/notices";
import { VirtualTable, type Column } from "../components/virtual-table";
import { localTime } from "../lib/settings";
import { bytes, count, plural } from "../lib/text";
import { formatSecond, roughDuration } from "../lib/time";
import { BlockCardinality } from "./cardinality";
import { Detail } from "./detail";
import { blocksOf, compare, groupsOf, spanOf, type Block, type BlockList } from "./model";
import { Timeline } from "./timeline";
import "./blocks.css";

const period = 60e3;

const none: Block[] = [];

/** The blocks of a bucket: a timeline of their groups, and a list. */
export default function BlocksPage() {
  const list = useList<BlockList>("blocks", {}, period);
  const data = list.answer?.data;
  const blocks = useMemo(() => (data ? blocksOf(data) : none), [data]);
  const kinds = [...new Set(blocks.flatMap((b) => b.remarks.map((r) => r.kind)))].sort(compare);
  const levels = [...new Set(blocks.map((b) => b.level))].sort((a, b) => a - b).map(String);
  return (
    <>
      <ListHead
        title="Blocks"
        list={list}
        filter="name, label, reason"
        json="blocks"
        summary={data && <Summary list={data} blocks={blocks} />}
        above={
          <>
            {data?.err && <ErrorNotice text={data.err} />}
            <Doctor
              path="blocks/findings"
              about="the sources of the bucket"
              period={period}
              tenant=""
            />
          </>
        }
      >
        <ListChoice
          list={list}
          label="Resolution"
          values={[...new Set(blocks.map((b) => b.resolution))].sort(compare)}
        />
        <ListChoice list={list} label="Level" values={levels} />
        <ListChoice list={list} label="State" values={kinds} />
      </ListHead>
      {data && <Content list={list} blocks={blocks} markable={data.markable} />}
    </>
  );
}

interface ContentProps {
  list: List<BlockList>;
  blocks: Block[];
  markable: boolean;
}

function Content({ list, blocks, markable }: ContentProps) {
  const { text, get, set, reload } = list;
  const [resolution, level, state] = ["resolution", "level", "state"].map(get) as string[];
  const found = useMemo(
    () =>
      blocks.filter(
        (b) =>
          b.text.includes(text.toLowerCase()) &&
          (!resolution || b.resolution === resolution) &&
          (!level || String(b.level) === level) &&
          (!state || b.remarks.some((r) => r.kind === state)),
      ),
    [blocks, text, resolution, level, state],
  );
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
  return (
    <>
      <BlockCardinality />
      <Timeline
        groups={groups}
        span={span}
        selected={group}
        select={(key, times) =>
          set({ group: key, from: times ? `${times.from}` : "", to: times ? `${times.to}` : "" })
        }
      />
      <p role="status" class="row found">
        {plural(shown.length, "block")}
        {(group || to > 0) && (
          <button onClick={() => set({ group: "", from: "", to: "" })}>Show all groups</button>
        )}
      </p>
      <Table blocks={shown} markable={markable} reload={reload} />
    </>
  );
}

function Summary({ list, blocks }: { list: BlockList; blocks: Block[] }) {
  const local = localTime.use();
  const at = Date.parse(list.refreshedAt);
  if (!(at > 0)) {
    return <>The bucket has not been listed yet.</>;
  }
  const size = blocks.reduce((sum, b) => sum + (b.size ?? 0), 0);
  const known = blocks.length === 0 || blocks.some((b) => b.size !== undefined);
  const bad = blocks.filter((b) => b.remarks.some((r) => r.bad)).length;
  return (
    <>
      {plural(blocks.length, "block")}, {known ? bytes(size) : "sizes unknown"}, as listed at{" "}
      {formatSecond(at, local)}
      {bad > 0 && <span class="missing"> · {count(bad)} to look at</span>}
    </>
  );
}

interface TableProps {
  blocks: Block[];
  markable: boolean;
  reload(): void;
}

function Table({ blocks, markable, reload }: TableProps) {
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
      width: "5.5rem",
      numeric: true,
      cell: (b) => b.meta && roughDuration(b.meta.maxTime - b.meta.minTime),
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
