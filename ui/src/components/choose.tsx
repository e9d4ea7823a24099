import { visible } from "../lib/text";

interface Props {
  label: string;
  value: string;
  values: string[];
  set(value: string): void;
}

/** A filter by one of some values; "" is all. */
export function Choose({ label, value, values, set }: Props) {
  return (
    <select aria-label={label} value={value} onChange={(e) => set(e.currentTarget.value)}>
      <option value="">{label}: all</option>
      {values.map((v) => (
        <option key={v} value={v}>
          {visible(v)}
        </option>
      ))}
    </select>
  );
}
