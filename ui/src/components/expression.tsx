import { visible } from "../lib/text";
import { newPanel, print } from "../query/state";
import { Link } from "./link";

/** An expression in full, with a link that opens it on the page of queries. */
export function Expression({ expr, tenant }: { expr: string; tenant?: string }) {
  return (
    <>
      <p class="wrap">
        <code>{visible(expr)}</code>
      </p>
      <p>
        <Link path="graph" search={print([newPanel({ expr, tenant: tenant ?? "" })], 0)}>
          Open in Query
        </Link>
      </p>
    </>
  );
}
