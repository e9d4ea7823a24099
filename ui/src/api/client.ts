import { env, root } from "../env";
import type { Completeness } from "./types";

export type Params = Record<string, string | string[] | undefined>;

export interface Call {
  params?: Params;
  signal?: AbortSignal;
  /** The tenant of the request; "" is the default one. */
  tenant?: string;
  /** The parameters of a POST are its body, as a form. */
  method?: "GET" | "POST" | "DELETE";
  /** The answer is the data, without the envelope of the Prometheus API. */
  bare?: boolean;
}

/** A call whose answer has a reader of its own. */
export interface ReadCall<T> extends Call {
  /** Reads the body of a good answer; the default is JSON.parse. It throws when the body is no JSON. */
  read?(body: ArrayBuffer): Promise<Envelope<T>>;
}

/** What an answer of the Prometheus API has beside its data. */
export interface Answer<T> {
  data: T;
  warnings: string[];
  infos: string[];
  completeness?: Completeness;
  /** How long it took until the whole answer was read, in milliseconds. */
  millis: number;
}

/** The JSON of the Prometheus API. */
export interface Envelope<T> {
  status: string;
  data?: T;
  errorType?: string;
  error?: string;
  /** The id of the page that explains the error; most texts have it at their end as well. */
  errorId?: string;
  warnings?: string[];
  infos?: string[];
  completeness?: Completeness;
}

/** An answer that is an error, or the failure to get one. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly type: string,
    /** The HTTP status, 0 without an answer. */
    readonly status: number,
    readonly completeness?: Completeness,
    readonly warnings: string[] = [],
  ) {
    super(message);
  }
}

/** A longer query goes into the body of the request. */
const maxUrl = 4000;

function encode(params: Params): URLSearchParams {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const one of Array.isArray(value) ? value : value === undefined ? [] : [value]) {
      out.append(name, one);
    }
  }
  return out;
}

function request(path: string, call: Call): [URL, RequestInit] {
  const url = new URL(`api/v1/${path}`, root);
  const init: RequestInit = { method: call.method ?? "GET", headers: {} };
  if (call.signal) {
    init.signal = call.signal;
  }
  const headers: Record<string, string> = { Accept: "application/json" };
  if (call.tenant && env.tenantHeader) {
    headers[env.tenantHeader] = call.tenant;
  }
  const params = encode(call.params ?? {});
  const text = params.toString();
  if (init.method === "POST" || (init.method === "GET" && text.length > maxUrl)) {
    init.method = "POST";
    init.body = params;
  } else {
    url.search = text;
  }
  init.headers = headers;
  return [url, init];
}

/**
 * Calls the API of the server. Errors are ApiError; an aborted call rejects with the
 * AbortError of the signal.
 */
export async function call<T>(path: string, options: ReadCall<T> = {}): Promise<Answer<T>> {
  const begin = performance.now();
  const [url, init] = request(path, options);
  let response: Response;
  let text = "";
  let bytes: ArrayBuffer | undefined;
  try {
    response = await fetch(url, init);
    if (response.ok && options.read) {
      bytes = await response.arrayBuffer();
    } else {
      text = await response.text();
    }
  } catch (e) {
    if (options.signal?.aborted) {
      throw e;
    }
    throw new ApiError(`cannot reach the server: ${message(e)}`, "network", 0);
  }
  const body = bytes
    ? await options.read!(bytes).catch(() => undefined)
    : parse<T>(text, response.ok && options.bare);
  if (!response.ok || (body && body.status !== "success")) {
    throw new ApiError(
      failure(body) ?? (text.trim().slice(0, 500) || response.statusText),
      body?.errorType ?? "http",
      response.status,
      body?.completeness,
      body?.warnings,
    );
  }
  if (!body && response.status !== 204) {
    throw new ApiError("the answer is no JSON: is a proxy in front?", "http", response.status);
  }
  const answer: Answer<T> = {
    data: body?.data as T,
    warnings: body?.warnings ?? [],
    infos: body?.infos ?? [],
    millis: performance.now() - begin,
  };
  if (body?.completeness) {
    answer.completeness = body.completeness;
  }
  return answer;
}

function parse<T>(text: string, bare?: boolean): Envelope<T> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return bare ? { status: "success", data: value as T } : (value as Envelope<T>);
  } catch {
    return undefined;
  }
}

/** The text of an error, with the id of its page at the end. */
function failure(body?: Envelope<unknown>): string | undefined {
  const id = body?.errorId ? ` [${body.errorId}]` : "";
  return body?.error?.endsWith(id) ? body.error : body?.error && body.error + id;
}

export function message(e: unknown): string {
  return e instanceof Error ? e.message : String(e);
}
