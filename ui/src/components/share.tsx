interface Props {
  value: number;
  all: number;
  /** What all is, for people; the text has it behind the percentage. */
  of?: string;
  /** Marks a value that is near to all as a problem. */
  limit?: boolean;
}

/** A bar with the share of a value, and its percentage. */
export function Share({ value, all, of, limit }: Props) {
  const percent = all > 0 ? (100 * value) / all : 0;
  const text = `${percent.toFixed(1)}%${of ? (of.startsWith(",") ? of : ` ${of}`) : ""}`;
  const near = limit && percent >= 90;
  return (
    <span class="share-cell">
      <span class="timebar" aria-hidden="true">
        <i
          class={near ? "missing" : "share-bar"}
          style={{ left: "0", width: `${Math.min(percent, 100)}%` }}
        />
      </span>
      <span class={near ? "missing" : "quiet"}>{text}</span>
    </span>
  );
}
