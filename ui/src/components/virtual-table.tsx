import type { ComponentChildren } from "preact";
import { useLayoutEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";

export interface Column<T> {
  key: string;
  title: ComponentChildren;
  /** The name of the column where the title is no text. */
  label?: string;
  /** A track of a CSS grid, such as minmax(8rem, 1fr). */
  width: string;
  numeric?: boolean;
  cell(row: T): ComponentChildren;
  /** Makes the column sortable. */
  compare?(a: T, b: T): number;
}

interface Props<T> {
  label: string;
  rows: T[];
  columns: Column<T>[];
  rowKey(row: T): string | number;
  /** The height of a row before it has been measured, in pixels. */
  estimate?: number;
  /** What a row shows below its cells when it is open; makes rows open on Enter and click. */
  detail?(row: T): ComponentChildren;
  empty?: ComponentChildren;
}

interface Sort {
  key: string;
  down: boolean;
}

/** Rows above and below the visible ones that are rendered as well. */
const overscan = 6;

/**
 * A table that renders only the rows in view. Rows may have different heights: each is
 * measured once rendered, the other ones count with the estimate.
 */
export function VirtualTable<T>(props: Props<T>) {
  const { columns, rowKey, estimate = 34 } = props;
  const [sort, setSort] = useState<Sort>();
  const [open, setOpen] = useState<ReadonlySet<string | number>>(new Set());
  const rows = useMemo(() => sorted(props.rows, columns, sort), [props.rows, sort]);
  const { viewport, window, measure } = useWindow(rows, rowKey, estimate);
  const template = columns.map((c) => c.width).join(" ");
  const toggle = (key: string | number) => {
    const next = new Set(open);
    if (!next.delete(key)) {
      next.add(key);
    }
    setOpen(next);
  };
  return (
    <div class="vtable" role="table" aria-label={props.label} aria-rowcount={rows.length + 1}>
      <div class="vhead" role="row" aria-rowindex={1} style={{ gridTemplateColumns: template }}>
        {columns.map((c) => (
          <Heading key={c.key} column={c} sort={sort} setSort={setSort} />
        ))}
      </div>
      <div
        class="vbody"
        role="rowgroup"
        ref={viewport}
        tabIndex={0}
        aria-label={`Rows of ${props.label}`}
      >
        {rows.length === 0 && <p class="quiet pad">{props.empty ?? "There are none."}</p>}
        <div style={{ height: `${window.before}px` }} />
        {rows.slice(window.from, window.to).map((row, i) => {
          const key = rowKey(row);
          return (
            <Row
              key={key}
              {...{ row, columns, template, measure }}
              id={key}
              index={window.from + i}
              detail={props.detail}
              open={open.has(key)}
              toggle={toggle}
            />
          );
        })}
        <div style={{ height: `${window.after}px` }} />
      </div>
    </div>
  );
}

function sorted<T>(rows: T[], columns: Column<T>[], sort?: Sort): T[] {
  const compare = columns.find((c) => c.key === sort?.key)?.compare;
  if (!compare || !sort) {
    return rows;
  }
  return rows.toSorted((a, b) => (sort.down ? compare(b, a) : compare(a, b)));
}

interface HeadingProps<T> {
  column: Column<T>;
  sort: Sort | undefined;
  setSort(s: Sort | undefined): void;
}

function Heading<T>({ column, sort, setSort }: HeadingProps<T>) {
  const mine = sort?.key === column.key ? sort : undefined;
  const next = () =>
    setSort(
      !mine
        ? { key: column.key, down: !!column.numeric }
        : mine.down === !!column.numeric
          ? { key: column.key, down: !mine.down }
          : undefined,
    );
  const order = mine ? (mine.down ? "descending" : "ascending") : "none";
  return (
    <div
      role="columnheader"
      class={column.numeric ? "num" : undefined}
      aria-sort={column.compare && order}
      aria-label={column.label}
    >
      {column.compare ? (
        <button class="sort" onClick={next}>
          {column.title}
          <span aria-hidden="true">{mine ? (mine.down ? " ▾" : " ▴") : ""}</span>
        </button>
      ) : (
        column.title
      )}
    </div>
  );
}

interface RowProps<T> {
  row: T;
  id: string | number;
  index: number;
  columns: Column<T>[];
  template: string;
  detail?: ((row: T) => ComponentChildren) | undefined;
  open: boolean;
  toggle(key: string | number): void;
  measure(key: string | number, height: number): void;
}

function Row<T>(p: RowProps<T>) {
  const element = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const e = element.current;
    if (!e) {
      return;
    }
    const watch = new ResizeObserver(() => p.measure(p.id, e.offsetHeight));
    watch.observe(e);
    return () => watch.disconnect();
  }, [p.id, p.measure]);
  const { detail } = p;
  return (
    <div class="vitem" ref={element} data-open={p.open}>
      <div
        class="vrow"
        role="row"
        aria-rowindex={p.index + 2}
        style={{ gridTemplateColumns: p.template }}
      >
        {p.columns.map((c, i) => (
          <div
            key={c.key}
            role="cell"
            class={c.numeric ? "num" : undefined}
            data-title={typeof c.title === "string" ? c.title : c.label}
          >
            {i === 0 && detail ? (
              <button class="expand" aria-expanded={p.open} onClick={() => p.toggle(p.id)}>
                <span aria-hidden="true">{p.open ? "▾" : "▸"}</span>
                {c.cell(p.row)}
              </button>
            ) : (
              c.cell(p.row)
            )}
          </div>
        ))}
      </div>
      {p.open && detail && <div class="vdetail">{detail(p.row)}</div>}
    </div>
  );
}

interface Window {
  from: number;
  to: number;
  /** The heights of what is above and below, in pixels. */
  before: number;
  after: number;
}

/** Which rows are in view, by the heights that are known. */
function useWindow<T>(rows: T[], rowKey: (row: T) => string | number, estimate: number) {
  const viewport = useRef<HTMLDivElement>(null);
  const heights = useRef(new Map<string | number, number>());
  const [, render] = useReducer((n: number) => n + 1, 0);
  const pending = useRef(0);
  const later = useRef(() => {
    pending.current ||= requestAnimationFrame(() => {
      pending.current = 0;
      render(undefined);
    });
  });
  const measure = useRef((key: string | number, height: number) => {
    if (height > 0 && heights.current.get(key) !== height) {
      heights.current.set(key, height);
      later.current();
    }
  });
  useLayoutEffect(() => {
    const e = viewport.current;
    if (!e) {
      return;
    }
    const watch = new ResizeObserver(later.current);
    watch.observe(e);
    e.addEventListener("scroll", later.current, { passive: true });
    return () => {
      watch.disconnect();
      e.removeEventListener("scroll", later.current);
      cancelAnimationFrame(pending.current);
      pending.current = 0;
    };
  }, []);
  const height = (row: T) => heights.current.get(rowKey(row)) ?? estimate;
  const top = viewport.current?.scrollTop ?? 0;
  const window = cut(rows, height, top, top + (viewport.current?.clientHeight || 600));
  return { viewport, window, measure: measure.current };
}

function cut<T>(rows: T[], height: (row: T) => number, top: number, bottom: number): Window {
  let y = 0;
  let from = -1;
  let to = rows.length;
  const tops: number[] = [];
  rows.forEach((row, i) => {
    tops.push(y);
    if (y <= bottom) {
      to = i + 1;
    }
    y += height(row);
    if (from < 0 && y > top) {
      from = i;
    }
  });
  from = Math.max(0, (from < 0 ? rows.length : from) - overscan);
  to = Math.min(rows.length, to + overscan);
  const before = tops[from] ?? 0;
  return { from, to, before, after: y - (to < rows.length ? (tops[to] ?? y) : y) };
}
