import { useState } from "preact/hooks";
import { useTenants } from "../api/tenants";
import { env } from "../env";
import { visible } from "../lib/text";
import type { List } from "./list-page";

/** The tenant for which the page asks, where requests have one. */
export function TenantField<T>({ list }: { list: List<T> }) {
  const [open, setOpen] = useState(list.tenant !== "");
  if (!env.tenantHeader) {
    return null;
  }
  return (
    <details class="options" open={open} onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>Tenant{list.tenant && `: ${visible(list.tenant)}`}</summary>
      <div class="field">
        <label>
          The page as this tenant sees it, where the querier enforces tenancy
          {open && (
            <TenantInput id="tenants" value={list.tenant} set={(tenant) => list.set({ tenant })} />
          )}
        </label>
      </div>
    </details>
  );
}

interface InputProps {
  id: string;
  value: string;
  set(tenant: string): void;
}

/** A field that offers the tenants that the querier knows. */
export function TenantInput({ id, value, set }: InputProps) {
  const tenants = useTenants();
  return (
    <>
      <input
        list={id}
        value={value}
        placeholder={env.defaultTenant ?? ""}
        onChange={(e) => set(e.currentTarget.value.trim())}
      />
      <datalist id={id}>
        {tenants.map((t) => (
          <option key={t} value={t} />
        ))}
      </datalist>
    </>
  );
}
