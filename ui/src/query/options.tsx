import { useState } from "preact/hooks";
import type { Store } from "../api/types";
import { usePolled } from "../api/use";
import { TenantInput } from "../components/tenant-field";
import { env } from "../env";
import { plural, visible } from "../lib/text";
import { addressMatch, type Choice, type PanelState, type Resolution } from "./state";

interface Props {
  panel: PanelState;
  change(part: Partial<PanelState>): void;
}

/** The parameters of the querier beside expression and times. */
export function Options({ panel, change }: Props) {
  const [open, setOpen] = useState(false);
  return (
    <details class="options" onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>Options{summary(panel)}</summary>
      <div class="fields">
        <Select
          label="Deduplication"
          value={panel.dedup}
          names={{ "": "Default (on)", true: "On", false: "Off" }}
          set={(dedup: Choice) => change({ dedup })}
        />
        <Select
          label="Partial response"
          value={panel.partial}
          names={{ "": "Default", true: "Allow: show what is missing", false: "Refuse: fail" }}
          set={(partial: Choice) => change({ partial })}
        />
        <Select
          label="Resolution"
          value={panel.resolution}
          names={{
            "": "Default",
            auto: "Auto by step",
            raw: "Raw only",
            "5m": "Up to 5m",
            "1h": "Up to 1h",
          }}
          set={(resolution: Resolution) => change({ resolution })}
        />
        <Text
          label="Replica labels"
          hint="default; a,b replaces them; - removes none"
          value={panel.replicaLabels === undefined ? "" : panel.replicaLabels.join(",") || "-"}
          set={(text) => change({ replicaLabels: replicaLabels(text) })}
        />
        {env.tenantHeader && (
          <label class="field">
            Tenant ({env.tenantHeader})
            {open && (
              <TenantInput
                id={`tenants-of-${panel.key}`}
                value={panel.tenant}
                set={(tenant) => change({ tenant })}
              />
            )}
          </label>
        )}
      </div>
      {open && <StoreFilter panel={panel} change={change} />}
    </details>
  );
}

function replicaLabels(text: string): string[] | undefined {
  const trimmed = text.trim();
  if (trimmed === "") {
    return undefined;
  }
  return trimmed === "-"
    ? []
    : trimmed
        .split(",")
        .map((l) => l.trim())
        .filter(Boolean);
}

/** What differs from the defaults, so that a closed block shows it. */
function summary(p: PanelState): string {
  const parts = [
    p.dedup && `deduplication ${p.dedup === "true" ? "on" : "off"}`,
    p.partial && `partial response ${p.partial === "true" ? "allowed" : "refused"}`,
    p.resolution && `resolution ${p.resolution}`,
    p.replicaLabels && `replica labels ${p.replicaLabels.join(", ") || "none"}`,
    p.storeMatch.length > 0 && plural(p.storeMatch.length, "store filter"),
    p.tenant && `tenant ${p.tenant}`,
  ].filter(Boolean);
  return parts.length > 0 ? `: ${visible(parts.join(" · "))}` : "";
}

interface SelectProps<T extends string> {
  label: string;
  value: T;
  names: Record<T, string>;
  set(value: T): void;
}

function Select<T extends string>({ label, value, names, set }: SelectProps<T>) {
  return (
    <label class="field">
      {label}
      <select value={value} onChange={(e) => set(e.currentTarget.value as T)}>
        {(Object.entries(names) as [T, string][]).map(([v, name]) => (
          <option key={v} value={v}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

interface TextProps {
  label: string;
  hint: string;
  value: string;
  set(text: string): void;
}

function Text({ label, hint, value, set }: TextProps) {
  return (
    <label class="field">
      {label}
      <input value={value} placeholder={hint} onChange={(e) => set(e.currentTarget.value)} />
    </label>
  );
}

/** Chooses the stores that are asked, by their addresses. */
function StoreFilter({ panel, change }: Props) {
  const { answer } = usePolled<Record<string, Store[]>>(
    "stores",
    { params: { all: "true" }, tenant: panel.tenant },
    0,
  );
  const names = Object.values(answer?.data ?? {}).flatMap((list) => list.map((s) => s.name));
  const add = (text: string) => {
    const match = text.startsWith("{") ? text : addressMatch(text);
    if (text.trim() !== "" && !panel.storeMatch.includes(match)) {
      change({ storeMatch: [...panel.storeMatch, match] });
    }
  };
  const id = `stores-of-${panel.key}`;
  return (
    <div class="field">
      <label>
        Only these stores
        <input
          list={id}
          placeholder="all; choose an address, or write a selector"
          onChange={(e) => {
            add(e.currentTarget.value);
            e.currentTarget.value = "";
          }}
        />
      </label>
      <datalist id={id}>
        {names.map((n) => (
          <option key={n} value={n} />
        ))}
      </datalist>
      <ul class="chips">
        {panel.storeMatch.map((m) => (
          <li key={m}>
            <code>{visible(m)}</code>
            <button
              aria-label={`Remove the store filter ${visible(m)}`}
              onClick={() => change({ storeMatch: panel.storeMatch.filter((o) => o !== m) })}
            >
              ×
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
