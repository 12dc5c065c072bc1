// The peers in a table: role, rate, staleness, traffic, attested cut, and what keeps one from merging.

import { clean, copier, el, keyed, put, say, show } from "../dom.js";
import { ago, bytes, count, number, plural, short } from "../format.js";
import { ROLES } from "../words.js";
import { table } from "./table.js";

/** Build it; returns what draws it. */
export function mount(at) {
  let settled = null; // the cut that is settled here
  const right = "right";
  const join = el("code", { class: "command" });
  const columns = [
    { name: "peer", label: "Peer", sort: (peer) => peer.peer, fill: fillPeer },
    { name: "role", label: "Role", sort: (peer) => rankOf(peer), fill: fillRole },
    {
      name: "rate",
      label: "Rate",
      side: right,
      sort: (peer) => peer.samples_per_second,
      fill: (cell, peer) => say(cell, peer.samples_per_second ? `${number(peer.samples_per_second)}/s` : "–"),
    },
    {
      name: "staleness",
      label: "Stale",
      side: right,
      sort: (peer) => peer.staleness,
      fill: (cell, peer) => say(cell, stale(peer.staleness)),
    },
    {
      name: "updates",
      label: "Holds",
      side: right,
      sort: (peer) => peer.updates,
      fill: (cell, peer) => say(cell, count(peer.updates)),
    },
    {
      name: "sent",
      label: "Sent",
      side: right,
      sort: (peer) => peer.bytes_sent,
      fill: (cell, peer) => say(cell, bytes(peer.bytes_sent)),
    },
    {
      name: "received",
      label: "Received",
      side: right,
      sort: (peer) => peer.bytes_received,
      fill: (cell, peer) => say(cell, bytes(peer.bytes_received)),
    },
    {
      name: "settled",
      label: "Attests cut",
      side: right,
      sort: (peer) => peer.settled?.index,
      fill: (cell, peer) => fillCut(cell, peer, settled),
    },
    {
      name: "seen",
      label: "Heard",
      side: right,
      sort: (peer) => peer.last_seen,
      fill: (cell, peer) => say(cell, ago(peer.last_seen)),
    },
    { name: "problem", label: "Problem", sort: (peer) => problem(peer), fill: fillProblem },
  ];
  const grid = table({
    caption: "Peers",
    columns,
    key: (peer) => peer.peer,
    sorted: { name: "role", down: false },
    empty: [
      el("strong", { text: "Nobody else is here yet." }),
      el(
        "p",
        { class: "hint-text" },
        "This node trains by itself and keeps looking. On another PC of this network start a node with the same topic and task:",
      ),
      join,
      el(
        "p",
        { class: "hint-text" },
        "Across networks give it an address of this node, see below, with ",
        el("code", { text: "--peer" }),
        ". If nobody appears, ",
        el("code", { text: "learnae doctor" }),
        " tells why.",
      ),
    ],
  });
  const own = ownNode();
  at("peers").append(grid.element, own.element);
  return ({ peers, status }, now) => {
    if (peers === null || !status) return;
    settled = status.cuts?.settled ?? null;
    own.update(status);
    say(join, `learnaed run --topic ${clean(status.topic, 64)} --task ${clean(status.task, 80)}`);
    const wrong = peers.some((peer) => problem(peer));
    put(grid.element, "data-problems", wrong ? "some" : "none");
    grid.draw(peers, now);
    const connected = peers.filter((peer) => peer.connected).length;
    say(at("peers-count"), peers.length === 0 ? "" : `${plural(peers.length, "peer")} known, ${connected} connected`);
  };
}

// Who this node is, and where others can dial it.
function ownNode() {
  const peer = el("code");
  const addresses = el("ul");
  let whole = "";
  const element = el(
    "details",
    { class: "mine", hidden: true },
    el("summary", { text: "This node: id and addresses" }),
    el(
      "div",
      { class: "fold" },
      peer,
      " ",
      copier("Copy the id of this node", () => whole),
      addresses,
    ),
  );
  const update = ({ peer: id, listen }) => {
    whole = String(id);
    show(element, true);
    say(peer, whole);
    const dialled = (listen ?? [])
      .slice(0, 12)
      .map((address) => (String(address).includes("/p2p/") ? String(address) : `${address}/p2p/${id}`));
    keyed(
      addresses,
      dialled,
      (address) => address,
      (address) => ({
        element: el(
          "li",
          {},
          el("code", { text: clean(address, 200) }),
          " ",
          copier("Copy this address", () => address),
        ),
        update() {},
      }),
    );
  };
  return { element, update };
}

const roleOf = (peer) => (Object.hasOwn(ROLES, peer.role) ? peer.role : "unknown");
const DIALLED = { inbound: ", dialled by it", outbound: ", dialled by this node" };
const connection = (peer) =>
  peer.connected
    ? `connected${Object.hasOwn(DIALLED, peer.direction) ? DIALLED[peer.direction] : ""}`
    : "not connected";
const rankOf = (peer) => Object.keys(ROLES).indexOf(roleOf(peer)) + (peer.connected ? 0 : 10);
const stale = (slots) => (slots === null || slots === undefined ? "–" : slots === 0 ? "fresh" : plural(slots, "slot"));

function problem(peer) {
  if (peer.forked) return "signed two updates for one slot; one of them counts";
  return peer.problem || (peer.swarm_match || peer.state === "unknown" ? "" : "it is in another swarm");
}

function fillPeer(cell, peer) {
  if (!cell.parts) {
    const name = el("span", { class: "mono" });
    const whole = el("code");
    const lines = el("dl", { class: "lines" });
    cell.whole = peer.peer;
    cell.append(
      el(
        "details",
        {},
        el("summary", {}, name),
        el(
          "div",
          { class: "fold" },
          el(
            "div",
            {},
            whole,
            copier("Copy the peer id", () => cell.whole),
          ),
          lines,
        ),
      ),
    );
    cell.parts = { name, whole, lines };
  }
  const { name, whole, lines } = cell.parts;
  say(name, clean(short(peer.peer), 16));
  say(whole, clean(peer.peer, 120));
  tell(lines, [
    ["connection", connection(peer)],
    [
      "addresses",
      (peer.addresses ?? [])
        .slice(0, 8)
        .map((address) => clean(address, 160))
        .join("\n") || "none known",
    ],
    ["state", clean(peer.state, 40)],
    ["runs", clean(peer.agent, 120) || "–"],
    [
      "clock",
      typeof peer.clock_ahead === "number"
        ? `${Math.abs(peer.clock_ahead).toFixed(1)} s ${peer.clock_ahead < 0 ? "behind" : "ahead of"} this PC`
        : "–",
    ],
    ["ledger", clean(short(peer.vector_digest), 16)],
  ]);
}

function tell(list, lines) {
  while (list.children.length < 2 * lines.length) list.append(el("dt"), el("dd"));
  for (const [place, [name, text]] of lines.entries()) {
    say(list.children[2 * place], name);
    say(list.children[2 * place + 1], text);
  }
}

function fillRole(cell, peer) {
  if (!cell.parts) {
    cell.parts = [el("i", { "aria-hidden": "true" }), el("span")];
    cell.append(el("span", {}, ...cell.parts));
  }
  const [dot, text] = cell.parts;
  const role = roleOf(peer);
  put(dot, "class", `role ${role}${peer.connected ? "" : " apart"}`);
  say(text, peer.connected ? ROLES[role] : `${ROLES[role]}, away`);
}

function fillCut(cell, peer, own) {
  const { settled } = peer;
  const behind = settled && own ? own.index - settled.index : 0;
  let text = "–";
  let mood = null;
  if (settled) {
    text = String(Number(settled.index));
    if (own && settled.cid === own.cid) [text, mood] = [`${text} ✓`, "same"];
    else if (own && behind === 0) [text, mood] = [`${text} ≠`, "differs"];
    else if (behind > 0) text = `${text} (−${behind})`;
    else if (own) text = `${text} (+${-behind})`;
  }
  say(cell, text);
  put(cell, "data-mood", mood);
  put(
    cell,
    "title",
    { same: "the same weights as here, to the bit", differs: "not the weights that are settled here" }[mood] ??
      (settled ? clean(settled.cid, 120) : null),
  );
}

function fillProblem(cell, peer) {
  const text = problem(peer);
  say(cell, clean(text, 400));
  put(cell, "data-empty", text === "");
}
