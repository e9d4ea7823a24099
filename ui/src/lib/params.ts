import { here, navigate, usePlace } from "../router";

/** Parameters of the URL as the state of a page, and a function that changes some. */
export function useParams(): [URLSearchParams, (changes: Record<string, string>) => void] {
  const place = usePlace();
  const params = new URLSearchParams(place.search);
  const set = (changes: Record<string, string>) => {
    // A field that loses the focus because the page changes says so after the change.
    if (here().path !== place.path) {
      return;
    }
    const next = new URLSearchParams(here().search);
    for (const [name, value] of Object.entries(changes)) {
      if (value) {
        next.set(name, value);
      } else {
        next.delete(name);
      }
    }
    const text = next.toString();
    navigate(place.path, text && `?${text}`, true);
  };
  return [params, set];
}
