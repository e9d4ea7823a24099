import { useEffect, useState } from "preact/hooks";
import { localTime } from "../lib/settings";
import { formatDuration, formatTime, parseDuration, parseTime } from "../lib/time";
import { autoStep } from "./run";
import { parseStep, type PanelState } from "./state";

interface Props {
  panel: PanelState;
  ranged: boolean;
  change(part: Partial<PanelState>): void;
}

const ranges = [
  "5m",
  "15m",
  "30m",
  "1h",
  "3h",
  "6h",
  "12h",
  "1d",
  "2d",
  "7d",
  "14d",
  "30d",
  "90d",
  "365d",
];

/** Range, end and step of a panel. */
export function Times({ panel, ranged, change }: Props) {
  const local = localTime.use();
  const longer = (by: 1 | -1) => {
    const all = ranges.map((r) => parseDuration(r)!);
    const next = by > 0 ? all.find((r) => r > panel.range) : all.findLast((r) => r < panel.range);
    change({ range: next ?? (by > 0 ? panel.range * 2 : Math.max(panel.range / 2, 1000)) });
  };
  const shift = (by: number) => change({ end: Math.round((panel.end ?? Date.now()) + by) });
  return (
    <div class="times">
      {ranged && (
        <div class="group" role="group" aria-label="Range">
          <button onClick={() => longer(-1)} aria-label="Shorter range" title="Shorter range">
            −
          </button>
          <Field
            label="Range"
            size={6}
            text={formatDuration(panel.range)}
            list={ranges}
            read={(text) => {
              const range = parseDuration(text);
              return range ? () => change({ range }) : undefined;
            }}
          />
          <button onClick={() => longer(1)} aria-label="Longer range" title="Longer range">
            +
          </button>
        </div>
      )}
      <div class="group" role="group" aria-label={ranged ? "End" : "Time"}>
        <button onClick={() => shift(-panel.range / 2)} aria-label="Earlier" title="Earlier">
          ‹
        </button>
        <Field
          label={ranged ? "End time" : "Time"}
          size={17}
          placeholder="now"
          text={panel.end === undefined ? "" : formatTime(panel.end, local)}
          read={(text) => {
            const end = text.trim() === "" ? undefined : parseTime(text, local);
            const valid = text.trim() === "" || end !== undefined;
            return valid ? () => change({ end }) : undefined;
          }}
        />
        <Picker end={panel.end} local={local} change={change} />
        <button onClick={() => shift(panel.range / 2)} aria-label="Later" title="Later">
          ›
        </button>
        {panel.end !== undefined && <button onClick={() => change({ end: undefined })}>Now</button>}
      </div>
      {ranged && (
        <Field
          label="Step"
          size={8}
          placeholder={`step ${formatDuration(autoStep(panel.range))}`}
          text={panel.step === undefined ? "" : formatDuration(panel.step)}
          read={(text) => {
            const step = text.trim() === "" ? undefined : parseStep(text.trim());
            return text.trim() === "" || step ? () => change({ step }) : undefined;
          }}
        />
      )}
    </div>
  );
}

interface FieldProps {
  label: string;
  text: string;
  size: number;
  placeholder?: string;
  list?: string[];
  /** Returns what a text does, or undefined for one that is not valid. */
  read(text: string): (() => void) | undefined;
}

/** A text that counts on Enter and when it is left. */
function Field({ label, text, size, placeholder, list, read }: FieldProps) {
  const [draft, setDraft] = useState(text);
  useEffect(() => setDraft(text), [text]);
  const commit = () => {
    if (draft !== text) {
      read(draft)?.();
    }
  };
  const id = list && `list-of-${label.toLowerCase()}`;
  return (
    <>
      <input
        aria-label={label}
        title={label}
        {...{ size, placeholder }}
        list={id}
        value={draft}
        aria-invalid={read(draft) === undefined}
        onInput={(e) => setDraft(e.currentTarget.value)}
        onChange={commit}
        onKeyDown={(e) => e.key === "Enter" && commit()}
      />
      {list && (
        <datalist id={id}>
          {list.map((v) => (
            <option key={v} value={v} />
          ))}
        </datalist>
      )}
    </>
  );
}

interface PickerProps {
  end: number | undefined;
  local: boolean;
  change(part: Partial<PanelState>): void;
}

/** The calendar of the browser. */
function Picker({ end, local, change }: PickerProps) {
  const value = formatTime(end ?? Date.now(), local)
    .slice(0, 19)
    .replace(" ", "T");
  return (
    <input
      type="datetime-local"
      class="calendar"
      step={1}
      aria-label="Pick the time"
      title="Pick the time"
      value={value}
      onChange={(e) => {
        const picked = parseTime(e.currentTarget.value, local);
        if (picked !== undefined) {
          change({ end: picked });
        }
      }}
    />
  );
}
