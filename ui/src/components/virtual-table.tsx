import type { ComponentChildren, RefObject } from "preact";
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

/** A column of numbers, by which rows can be sorted; a cell without a number is empty, and NaN sorts below all. */
export function numberColumn<T>(
  key: string,
  title: string,
  width: string,
  value: (row: T) => number | undefined,
  print: (n: number) => string,
): Column<T> {
  const order = (row: T) => {
    const n = value(row) ?? NaN;
    return Number.isNaN(n) ? -Infinity : n;
  };
  return {
    key,
    title,
    width,
    numeric: true,
    cell: (row) => {
      const n = value(row);
      return n === undefined ? "" : print(n);
    },
    compare: (a, b) => order(a) - order(b) || 0, // infinities of one sign differ by NaN
  };
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
 * measured once rendered, the other ones count with the estimate. The buttons that open
 * rows are one stop of the Tab key, as there may be thousands; arrows move between them.
 */
export function VirtualTable<T>(props: Props<T>) {
  const { columns, rowKey, estimate = 34 } = props;
  const [sort, setSort] = useState<Sort>();
  const [open, setOpen] = useState<ReadonlySet<string | number>>(new Set());
  const rows = useMemo(() => sorted(props.rows, columns, sort), [props.rows, sort]);
  const { viewport, window, measure, show } = useWindow(rows, rowKey, estimate);
  const onKeyDown = useRowKeys(viewport, rows.length, window, show);
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
        onKeyDown={onKeyDown}
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
    <div class="vitem" ref={element} data-open={p.open} data-index={p.index}>
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
      {p.open && detail && (
        <div class="vdetail" role="row">
          <div role="cell" aria-colspan={p.columns.length}>
            {detail(p.row)}
          </div>
        </div>
      )}
    </div>
  );
}

/** Moves the focus between the buttons of rows, and keeps one of them reachable by Tab. */
function useRowKeys(
  viewport: RefObject<HTMLDivElement | null>,
  count: number,
  window: Window,
  show: (index: number) => void,
) {
  const active = useRef(0);
  const wanted = useRef(false);
  useLayoutEffect(() => {
    const buttons = [...(viewport.current?.querySelectorAll<HTMLElement>(".vrow .expand") ?? [])];
    const of = (index: number) => buttons.find((b) => indexOf(b) === index);
    const focused = buttons.find((b) => b === document.activeElement);
    if (focused && !wanted.current) {
      active.current = indexOf(focused);
    }
    const stop = of(active.current) ?? buttons.find((b) => isIn(b, viewport.current)) ?? buttons[0];
    buttons.forEach((b) => (b.tabIndex = b === stop ? 0 : -1));
    const next = wanted.current && of(active.current);
    if (next) {
      wanted.current = false;
      next.focus();
    }
  });
  return (e: KeyboardEvent) => {
    const button = e.target as HTMLElement;
    if (!button.matches(".vrow .expand") || e.ctrlKey || e.altKey || e.metaKey) {
      return;
    }
    const at = indexOf(button);
    const page = Math.max(1, window.visible - 1);
    const to = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: count - 1,
    }[e.key];
    if (to !== undefined) {
      e.preventDefault();
      active.current = Math.min(Math.max(to, 0), count - 1);
      wanted.current = true;
      show(active.current);
    }
  };
}

/** The index of the row in which an element is. */
function indexOf(e: HTMLElement): number {
  return Number(e.closest<HTMLElement>(".vitem")?.dataset.index ?? -1);
}

/** Whether an element is in the view of a list. */
function isIn(e: HTMLElement, list: HTMLElement | null): boolean {
  const [a, b] = [e.getBoundingClientRect(), list?.getBoundingClientRect()];
  return b !== undefined && a.bottom > b.top && a.top < b.bottom;
}

interface Window {
  from: number;
  to: number;
  /** The heights of what is above and below, in pixels. */
  before: number;
  after: number;
  /** How many rows are in view. */
  visible: number;
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
  /** Scrolls to a row, and renders it. */
  const show = (index: number) => {
    const e = viewport.current;
    if (e) {
      const y = rows.slice(0, index).reduce((sum, row) => sum + height(row), 0);
      const end = y + height(rows[index]!);
      e.scrollTop = Math.max(Math.min(e.scrollTop, y), end - e.clientHeight);
      render(undefined);
    }
  };
  return { viewport, window, measure: measure.current, show };
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
  const visible = to - Math.max(from, 0);
  from = Math.max(0, (from < 0 ? rows.length : from) - overscan);
  to = Math.min(rows.length, to + overscan);
  const before = tops[from] ?? 0;
  return { from, to, before, visible, after: y - (to < rows.length ? (tops[to] ?? y) : y) };
}
