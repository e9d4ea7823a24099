import { navigate, usePlace } from "../router";

/** Parameters of the URL as the state of a page, and a function that changes some. */
export function useParams(): [URLSearchParams, (changes: Record<string, string>) => void] {
  const place = usePlace();
  const params = new URLSearchParams(place.search);
  const set = (changes: Record<string, string>) => {
    const next = new URLSearchParams(params);
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
