import { labelName, visible, type Labels } from "../lib/text";

/** A label set for people: the name of the metric, then the labels. */
export function LabelSet({ labels }: { labels: Labels }) {
  const { __name__: name, ...rest } = labels;
  const entries = Object.entries(rest);
  return (
    <span class="labels">
      {name !== undefined && <b>{visible(name)}</b>}
      {entries.map(([key, value]) => (
        <span class="label" key={key}>
          <span class="label-name">{visible(labelName(key))}</span>=
          <span class="label-value">"{visible(value)}"</span>
        </span>
      ))}
      {name === undefined && entries.length === 0 && <span class="quiet">{"{}"}</span>}
    </span>
  );
}
