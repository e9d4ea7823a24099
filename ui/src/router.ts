import { useEffect, useState } from "preact/hooks";
import { root } from "./env";

/** A place of the application: the path below the root, and the parameters. */
export interface Place {
  path: string;
  search: string;
}

const listeners = new Set<() => void>();

/** The last parameters of each page, so that links to it return to its state. */
const last = new Map<string, string>();

export function here(): Place {
  return {
    path: location.pathname.slice(root.pathname.length).replace(/\/$/, ""),
    search: location.search,
  };
}

/** The URL of a page, relative to nothing. */
export function href(path: string, search = last.get(path) ?? ""): string {
  return new URL(path + search, root).href;
}

/** Goes to a place. With replace the history of the browser gets no new entry. */
export function navigate(path: string, search = "", replace = false): void {
  const url = href(path, search);
  if (url === location.href) {
    return;
  }
  if (replace) {
    history.replaceState(null, "", url);
  } else {
    history.pushState(null, "", url);
  }
  announce();
}

function announce(): void {
  const at = here();
  last.set(at.path, at.search);
  listeners.forEach((call) => call());
}

addEventListener("popstate", announce);

/** The place of the moment. */
export function usePlace(): Place {
  const [place, set] = useState(here);
  useEffect(() => {
    const update = () => set(here());
    listeners.add(update);
    return () => void listeners.delete(update);
  }, []);
  return place;
}
