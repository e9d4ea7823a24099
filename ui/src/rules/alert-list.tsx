import { LabelSet } from "../components/labels";
import { localTime } from "../lib/settings";
import { visible, type Labels } from "../lib/text";
import { formatSecond } from "../lib/time";
import { stateClass, type Alert } from "./types";

/** When an alert became active. */
export function Since({ alert }: { alert: Alert }) {
  const local = localTime.use();
  return <>{alert.activeAt ? formatSecond(Date.parse(alert.activeAt), local) : "unknown"}</>;
}

/** Annotations, whose texts may have several lines. Links in them stay text. */
export function Annotations({ annotations }: { annotations: Labels }) {
  return (
    <dl>
      {Object.entries(annotations).map(([name, text]) => (
        <>
          <dt key={name}>{visible(name)}</dt>
          <dd key={`${name} text`}>
            {text.split("\n").map((line, i) => (
              <div key={i}>{visible(line)}</div>
            ))}
          </dd>
        </>
      ))}
    </dl>
  );
}

/** The first alerts of a rule. */
export function AlertList({ alerts }: { alerts: Alert[] }) {
  return (
    <ul>
      {alerts.slice(0, 100).map((a, i) => (
        <li key={i}>
          <span class={stateClass[a.state] ?? "unknown"}>{a.state}</span> since <Since alert={a} />,
          value {visible(a.value)} <LabelSet labels={a.labels} />
        </li>
      ))}
      {alerts.length > 100 && <li>and {alerts.length - 100} more</li>}
    </ul>
  );
}
