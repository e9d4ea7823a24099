import { useState } from "preact/hooks";
import { LabelSet } from "../components/labels";
import { formatTime } from "../lib/time";
import type { Labels } from "../lib/text";

/** What is below the cursor; left and top are pixels in the frame of the plot. */
export interface Hover {
  left: number;
  top: number;
  color: string;
  time: number;
  value: string;
  labels: Labels;
}

interface Props {
  /** Receives the function that shows something, or nothing. */
  show: { current(h: Hover | undefined): void };
  local: boolean;
}

/** The value below the cursor. It renders alone while the cursor moves. */
export function Tip({ show, local }: Props) {
  const [hover, set] = useState<Hover>();
  show.current = set;
  const right = hover && hover.left > innerWidth / 2;
  return (
    <div class="tip-layer" role="status">
      {hover && (
        <>
          <i
            class="tip-dot"
            style={{ left: `${hover.left}px`, top: `${hover.top}px`, background: hover.color }}
          />
          <div
            class="tip"
            data-side={right ? "left" : "right"}
            style={{ left: `${hover.left}px`, top: `${hover.top}px` }}
          >
            <div class="quiet">{formatTime(hover.time, local)}</div>
            <div>
              <i class="swatch" style={{ background: hover.color }} /> <b>{hover.value}</b>
            </div>
            <LabelSet labels={hover.labels} />
          </div>
        </>
      )}
    </div>
  );
}
