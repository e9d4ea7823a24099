import { useMemo } from "preact/hooks";
import { LabelSet } from "../components/labels";
import { distinct, ListChoice, ListHead, useList, useMatching } from "../components/list-page";
import { Share } from "../components/share";
import { numberColumn, VirtualTable, type Column } from "../components/virtual-table";
import { bytes, plural, visible, type Labels } from "../lib/text";

/** A member of a hashring, as the node that answers sees it; see /api/v1/receive/ring. */
interface Member {
  hashring: string;
  address: string;
  zone?: string;
  self?: boolean;
  share: number;
  leads_back?: boolean;
  state: string;
  waiting_bytes: number;
  hint_bytes: number;
  last_error?: string;
}

interface Ring {
  self: string;
  replication_factor: number;
  ready: string;
  external_labels: Labels;
  remote_write_address?: string;
  members: Member[];
}

const none: Member[] = [];

const states: Record<string, { text: string; kind: string }> = {
  down: { text: "cannot be reached", kind: "missing" },
  loop: { text: "leads back to this node", kind: "missing" },
  slow: { text: "too slow, writes become hints", kind: "unknown" },
  ok: { text: "answers", kind: "up" },
  self: { text: "this node", kind: "up" },
};

function stateOf(m: Member): { text: string; kind: string } {
  const state = m.leads_back ? "loop" : m.state;
  return states[state] ?? { text: visible(state), kind: "unknown" };
}

/** Orders members by how much they need a look; equal ones stay in the order of the ring. */
function rank(m: Member): number {
  const at = Object.keys(states).indexOf(m.leads_back ? "loop" : m.state);
  return at < 0 ? 2 : Math.min(at, 3);
}

const columns: Column<Member>[] = [
  {
    key: "address",
    title: "Member",
    width: "minmax(10rem, 2fr)",
    cell: (m) => <code class="cut">{visible(m.address)}</code>,
    compare: (a, b) => a.address.localeCompare(b.address),
  },
  {
    key: "hashring",
    title: "Hashring",
    width: "minmax(4rem, 1fr)",
    cell: (m) => <span class="cut">{visible(m.hashring)}</span>,
    compare: (a, b) => a.hashring.localeCompare(b.hashring),
  },
  {
    key: "zone",
    title: "Zone",
    width: "minmax(4rem, 1fr)",
    cell: (m) => <span class="cut">{visible(m.zone ?? "")}</span>,
    compare: (a, b) => (a.zone ?? "").localeCompare(b.zone ?? ""),
  },
  {
    key: "state",
    title: "State",
    width: "minmax(8rem, 1fr)",
    cell: (m) => <span class={stateOf(m).kind}>{stateOf(m).text}</span>,
    compare: (a, b) => rank(a) - rank(b),
  },
  {
    key: "share",
    title: "Share of tokens",
    width: "minmax(8rem, 1fr)",
    cell: (m) => <Share value={m.share} all={1} />,
    compare: (a, b) => a.share - b.share,
  },
  numberColumn("waiting", "Waiting", "5.5rem", (m) => m.waiting_bytes, bytes),
  {
    key: "hints",
    title: "Hints",
    width: "5.5rem",
    numeric: true,
    cell: (m) => (
      <span class={m.hint_bytes > 0 ? "unknown" : undefined}>{bytes(m.hint_bytes)}</span>
    ),
    compare: (a, b) => a.hint_bytes - b.hint_bytes,
  },
];

/** The members of the hashrings, as the node that serves the page sees them. */
export default function RingPage() {
  const list = useList<Ring>("receive/ring", { bare: true }, 5e3);
  const ring = list.answer?.data;
  const all = useMemo(
    () => ring?.members.toSorted((a, b) => rank(a) - rank(b)) ?? none,
    [list.answer],
  );
  const matching = useMatching(all, list.text, (m) =>
    [m.address, m.hashring, m.zone, stateOf(m).text, m.last_error].join(" "),
  );
  const [state, zone] = [list.get("state"), list.get("zone")];
  const rows = matching.filter(
    (m) => (!state || stateOf(m).text === state) && (!zone || m.zone === zone),
  );
  const zones = distinct(all, (m) => m.zone ?? "").filter(Boolean);
  return (
    <>
      <ListHead
        title="Ring"
        list={list}
        filter="address, hashring, zone, error"
        json="receive/ring"
        summary={ring && <Summary ring={ring} />}
      >
        <ListChoice list={list} label="State" values={distinct(all, (m) => stateOf(m).text)} />
        {zones.length > 0 && <ListChoice list={list} label="Zone" values={zones} />}
      </ListHead>
      {ring && <Zones members={all} zones={zones} />}
      {ring && (
        <VirtualTable
          label="members"
          rows={rows}
          columns={columns}
          rowKey={(m) => JSON.stringify([m.hashring, m.address])}
          detail={(m) => <Detail member={m} />}
          empty={
            all.length > 0
              ? "No member matches."
              : "This node has no ring and stores everything itself."
          }
        />
      )}
      <p class="quiet">
        The share is the part of all series that a member stores as their first copy. Waiting bytes
        are on their way to the member; hints are kept on disk until it is back.
      </p>
    </>
  );
}

function Summary({ ring }: { ring: Ring }) {
  const away = ring.members.filter((m) => stateOf(m).kind === "missing").length;
  return (
    <>
      {ring.ready === "yes" ? (
        <span class="up">ready</span>
      ) : (
        <span class="missing">not ready: {visible(ring.ready)}</span>
      )}
      {" · "}
      {plural(ring.replication_factor, "copy", "copies")} of each series ·{" "}
      {plural(ring.members.length, "member")}
      {away > 0 && <span class="missing">, {away} cannot be reached</span>}
      {" · "}
      {ring.self ? (
        <>
          this node is <code>{visible(ring.self)}</code>
        </>
      ) : ring.members.length > 0 ? (
        "this node only routes"
      ) : (
        "no ring"
      )}
      {ring.remote_write_address && (
        <>
          {" "}
          and takes writes at <code>{visible(ring.remote_write_address)}</code>
        </>
      )}
      {" · external labels "}
      <LabelSet labels={ring.external_labels} />
    </>
  );
}

/** The members and the share of each zone, where there are zones. */
function Zones({ members, zones }: { members: Member[]; zones: string[] }) {
  if (zones.length === 0) {
    return null;
  }
  const rings = new Set(members.map((m) => m.hashring)).size;
  return (
    <ul class="chips" aria-label="Zones">
      {zones.map((zone) => {
        const mine = members.filter((m) => m.zone === zone);
        const away = mine.filter((m) => stateOf(m).kind === "missing").length;
        const share = mine.reduce((sum, m) => sum + m.share, 0) / rings;
        return (
          <li key={zone} class="chip">
            <b>{visible(zone)}</b> {plural(mine.length, "member")}, {(100 * share).toFixed(1)}%
            {away > 0 && <span class="missing">{away} away</span>}
          </li>
        );
      })}
    </ul>
  );
}

function Detail({ member: m }: { member: Member }) {
  return (
    <>
      {m.last_error ? (
        <p class="missing wrap">Last error: {visible(m.last_error)}</p>
      ) : (
        <p class="quiet">No error yet.</p>
      )}
      <dl>
        <dt>Address</dt>
        <dd>
          <code>{visible(m.address)}</code>
        </dd>
        <dt>State</dt>
        <dd>{stateOf(m).text}</dd>
        <dt>Hints</dt>
        <dd>{bytes(m.hint_bytes)} on the disk of this node, for the time when it is back</dd>
      </dl>
    </>
  );
}
