import { useEffect, useRef, useState } from "preact/hooks";

interface Props {
  label: string;
  placeholder: string;
  value: string;
  set(value: string): void;
}

/** Browsers refuse to change the URL as fast as one types. In milliseconds. */
const pause = 150;

/** A field that filters a list shortly after one types. */
export function Search({ label, placeholder, value, set }: Props) {
  const [text, setText] = useState(value);
  const timer = useRef(0);
  const flush = (next: string) => {
    clearTimeout(timer.current);
    timer.current = 0;
    set(next);
  };
  // A change that is not from this field, such as one step back.
  useEffect(() => {
    if (!timer.current) {
      setText(value);
    }
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  return (
    <input
      type="search"
      placeholder={placeholder}
      aria-label={label}
      value={text}
      onInput={(e) => {
        const next = e.currentTarget.value;
        setText(next);
        clearTimeout(timer.current);
        timer.current = window.setTimeout(() => flush(next), pause);
      }}
      onChange={(e) => e.currentTarget.value === value || flush(e.currentTarget.value)}
    />
  );
}
