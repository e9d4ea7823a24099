import type { Labels } from "../lib/text";

export interface Alert {
  labels: Labels;
  annotations: Labels;
  state: string;
  activeAt?: string;
  value: string;
}

export interface Rule {
  type: "alerting" | "recording";
  name: string;
  query: string;
  labels: Labels;
  health: string;
  lastError?: string;
  evaluationTime: number;
  lastEvaluation: string;
  /** These are of alerting rules; durations are seconds. */
  state?: string;
  duration?: number;
  keepFiringFor?: number;
  annotations?: Labels;
  alerts?: Alert[];
}

export interface Group {
  name: string;
  file: string;
  interval: number;
  rules: Rule[];
}

/** The classes of the states of alerts, and their order. */
export const stateClass: Record<string, string> = {
  firing: "missing",
  pending: "unknown",
  inactive: "up",
};
export const stateOrder: Record<string, number> = { firing: 0, pending: 1, inactive: 2 };
