import type { ComponentChildren } from "preact";
import { visible } from "../lib/text";

/** A part of an explanation. */
export function Section({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section>
      <h3>{title}</h3>
      {children}
    </section>
  );
}

/** A name or an expression. */
export function code(text: string) {
  return <code>{visible(text)}</code>;
}

/** A short table. */
export function List({ head, rows }: { head: string[]; rows: ComponentChildren[][] }) {
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            {head.map((h) => (
              <th key={h}>{h}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, i) => (
            <tr key={i}>
              {row.map((cell, k) => (
                <td key={k}>{cell}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
