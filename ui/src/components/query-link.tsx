import type { ComponentChildren } from "preact";
import { env } from "../env";
import { newPanel, print } from "../query/state";
import { Link } from "./link";

interface Props {
  expr: string;
  tenant?: string;
  children: ComponentChildren;
}

/** A link that opens an expression on the page of queries; only text where there is none. */
export function QueryLink({ expr, tenant, children }: Props) {
  if (!env.pages.includes("graph")) {
    return <code>{children}</code>;
  }
  return (
    <Link path="graph" search={print([newPanel({ expr, tenant: tenant ?? "" })], 0)}>
      {children}
    </Link>
  );
}
