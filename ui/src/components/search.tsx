interface Props {
  label: string;
  placeholder: string;
  value: string;
  set(value: string): void;
}

/** A field that filters a list while one types. */
export function Search({ label, placeholder, value, set }: Props) {
  return (
    <input
      type="search"
      placeholder={placeholder}
      aria-label={label}
      value={value}
      onInput={(e) => set(e.currentTarget.value)}
    />
  );
}
