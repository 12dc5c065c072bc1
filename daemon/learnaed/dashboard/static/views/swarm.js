// A picture of who is connected: this node in the middle, the peers that it knows around it. The table of peers tells
// the same in words.

import { clean, keyed, el, put, say, svg } from "../dom.js";
import { bytes, plural, short } from "../format.js";
import { ROLES } from "../words.js";

const WIDTH = 460;
const HEIGHT = 300;
const CENTRE = [WIDTH / 2, HEIGHT / 2 - 4];
const MOST = 60; // peers that are drawn; a ring has 20
const NAMED = 16; // up to so many have their names beside them
const PULSE = 900; // ms

const LEGEND = [
  ["trains", "trains"],
  ["serves", "serves"],
  ["paused", "paused"],
  ["unknown", "not known"],
  ["problem", "cannot merge"],
];
const edges = new Map();

/** Build it; returns what draws it. */
export function mount(at) {
  const lines = svg("g", { class: "edges" });
  const dots = svg("g", { class: "nodes" });
  const own = svg(
    "g",
    { class: "own" },
    svg("circle", { cx: CENTRE[0], cy: CENTRE[1], r: 15 }),
    svg("text", { x: CENTRE[0], y: CENTRE[1] + 31, text: "this node" }),
  );
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, lines, dots, own);
  const empty = el("p", { class: "empty middle" });
  const more = el("p", { class: "hint" });
  const legend = el(
    "ul",
    { class: "legend", "aria-hidden": "true" },
    ...LEGEND.map(([role, text]) => el("li", {}, el("i", { class: `role ${role}` }), text)),
  );
  at("swarm").append(picture, empty, legend, more);
  const heard = new Map(); // author -> number of its newest update
  let last = null;
  return ({ peers, status, updates }) => {
    if (peers === null || !status) return;
    const drawn = [...peers]
      .sort((a, b) => rank(a) - rank(b) || order(a.peer, b.peer))
      .slice(0, MOST)
      .sort((a, b) => order(a.peer, b.peer));
    const spots = drawn.map((peer, place) => ({ ...peer, ...spot(place, drawn.length), named: drawn.length <= NAMED }));
    put(own, "data-state", ["training", "alone"].includes(status.state) ? "works" : "rests");
    const rows = keyed(lines, spots, (peer) => peer.peer, edge);
    keyed(dots, spots, (peer) => peer.peer, node);
    for (const name of edges.keys()) if (!rows.has(name)) edges.delete(name);
    if (updates !== null && updates !== last) pulse(updates, heard);
    last = updates;
    const connected = peers.filter((peer) => peer.connected).length;
    put(
      picture,
      "aria-label",
      `This node and ${plural(peers.length, "peer")}, ${connected} of them connected. The table of peers has the details.`,
    );
    say(empty, peers.length > 0 ? "" : "This node, and nobody else yet.");
    say(more, peers.length > MOST ? `and ${plural(peers.length - MOST, "more peer")}, listed below` : "");
    legend.hidden = peers.length === 0;
  };
}

// Let the connection with the author of a new update light up.
function pulse(updates, heard) {
  for (const { author, seq } of updates) {
    const last = heard.get(author);
    if (last !== undefined && last >= seq) continue;
    heard.set(author, seq);
    const line = edges.get(author);
    if (last === undefined || !line) continue;
    line.classList.add("pulse");
    setTimeout(() => line.classList.remove("pulse"), PULSE);
  }
}

const rank = (peer) => (peer.connected ? 0 : 2) + (peer.swarm_match ? 0 : 1);
const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

// Up to 20 on an ellipse; more on two or three, one inside the other.
function spot(place, many) {
  const rings = Math.ceil(many / 20);
  const ring = place % rings;
  const size = 1 - 0.28 * ring;
  const step = many === 2 ? 0.68 * Math.PI : (2 * Math.PI) / many; // two: not in line with this node
  const angle = -Math.PI / 2 + step * (many % 2 ? place : many === 2 ? place - 0.5 : place + 0.5);
  return { x: CENTRE[0] + size * 178 * Math.cos(angle), y: CENTRE[1] + size * 112 * Math.sin(angle) };
}

function edge({ peer: name }) {
  const element = svg("line", { x1: CENTRE[0], y1: CENTRE[1] });
  edges.set(name, element);
  const update = (peer) => {
    put(element, "x2", peer.x.toFixed(1));
    put(element, "y2", peer.y.toFixed(1));
    const traffic = (peer.bytes_sent ?? 0) + (peer.bytes_received ?? 0);
    put(element, "stroke-width", (1.2 + Math.min(3, Math.log10(1 + traffic / 10_000))).toFixed(1));
    put(
      element,
      "class",
      `${peer.connected ? "connected" : "apart"}${element.classList.contains("pulse") ? " pulse" : ""}`,
    );
  };
  return { element, update };
}

function node() {
  const circle = svg("circle", { r: 10 });
  const mark = svg("text", { class: "mark" });
  const name = svg("text", { class: "name" });
  const title = svg("title");
  const element = svg("g", {}, circle, mark, name, title);
  const update = (peer) => {
    const role = Object.hasOwn(ROLES, peer.role) ? peer.role : "unknown";
    const wrong = Boolean(peer.problem) || peer.forked;
    put(element, "class", `role ${role}${wrong ? " problem" : ""}${peer.connected ? "" : " apart"}`);
    for (const part of [circle]) {
      put(part, "cx", peer.x.toFixed(1));
      put(part, "cy", peer.y.toFixed(1));
    }
    const below = peer.y >= CENTRE[1] - 30;
    put(name, "x", peer.x.toFixed(1));
    put(name, "y", (peer.y + (below ? 25 : -17)).toFixed(1));
    put(mark, "x", peer.x.toFixed(1));
    put(mark, "y", (peer.y + 4).toFixed(1));
    say(mark, wrong ? "!" : role === "paused" ? "‖" : "");
    say(name, peer.named ? clean(short(peer.peer), 12) : "");
    const traffic = `${bytes(peer.bytes_sent)} sent, ${bytes(peer.bytes_received)} received`;
    say(title, clean(`${peer.peer}: ${ROLES[role]}, ${peer.connected ? "connected" : "not connected"}, ${traffic}`));
  };
  return { element, update };
}
