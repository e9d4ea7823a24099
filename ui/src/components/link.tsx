import type { ComponentChildren } from "preact";
import { href, navigate } from "../router";

interface Props {
  path: string;
  /** The parameters, with "?"; without it those of the last visit. */
  search?: string;
  current?: boolean;
  children: ComponentChildren;
}

/** A link to a page of the application, which opens without loading anything again. */
export function Link({ path, search, current, children }: Props) {
  const url = href(path, search);
  const open = (e: MouseEvent) => {
    if (e.button === 0 && !e.metaKey && !e.ctrlKey && !e.shiftKey && !e.altKey) {
      e.preventDefault();
      navigate(path, new URL(url).search);
    }
  };
  return (
    <a href={url} onClick={open} aria-current={current ? "page" : undefined}>
      {children}
    </a>
  );
}
