// What happened, as it happens: messages to the user, and what the daemon did; newest first.

import { clean, el, keyed, put, say, show } from "../dom.js";
import { bytes, clock, count, number, percent, short } from "../format.js";

const GROUPS = [
  ["highlights", ["message", "peer", "settled", "download", "state", "paused", "limits"]],
  ["messages", ["message"]],
  ["training", ["round", "report"]],
  ["swarm", ["peer", "cut", "settled", "download"]],
  ["control", ["state", "paused", "limits"]],
  ["all", null],
];

/** Build it; returns what draws it. */
export function mount(at) {
  let wanted = GROUPS[0][1];
  let last = null;
  const list = el("ol", { class: "log" });
  const empty = el("p", { class: "empty" });
  const live = el("span", { class: "live" });
  at("events").append(
    el("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": "Events, newest first" }, list),
    empty,
  );
  const buttons = GROUPS.map(([name, kinds]) => {
    const button = el("button", { type: "button", text: name, "aria-pressed": String(kinds === wanted) });
    button.addEventListener("click", () => {
      wanted = kinds;
      for (const other of buttons) put(other, "aria-pressed", String(other === button));
      draw(last);
    });
    return button;
  });
  at("kinds").before(live);
  at("kinds").append(...buttons);

  function draw(state) {
    last = state;
    if (!state?.status) return;
    const all = state.missing.has("events") ? messages(state.status) : state.events;
    const shown = withoutProgress(wanted === null ? all : all.filter((event) => wanted.includes(event.kind)));
    keyed(list, shown, (event) => `${event.id} ${event.time}`, line);
    show(list, shown.length > 0);
    show(empty, shown.length === 0);
    say(empty, all.length === 0 ? "Nothing has happened yet." : "Nothing of this kind lately.");
    say(live, state.streaming ? "live" : "");
  }
  return draw;
}

// Of a download only how far it is.
function withoutProgress(events) {
  const newest = new Set();
  return events.filter(({ kind, data }) => {
    if (kind !== "download") return true;
    const first = !newest.has(data.cid);
    newest.add(data.cid);
    return first || data.ended;
  });
}

// For a daemon without events: what it told the user.
function messages(status) {
  return (status.messages ?? [])
    .map(({ time, level, text }, place) => ({
      id: place,
      kind: "message",
      time: Date.parse(time) / 1000,
      data: { level, text },
    }))
    .reverse();
}

function line(event) {
  const [what, text] = tell(event);
  const level = event.kind === "message" && ["warning", "error"].includes(event.data.level) ? event.data.level : null;
  const element = el(
    "li",
    { "data-kind": what, "data-level": level },
    el("time", { text: clock(event.time), datetime: new Date(1000 * (event.time || 0)).toISOString() }),
    el("span", { class: "kind", text: level ?? what }),
    el("span", { class: "text", text: clean(text, 600) }),
  );
  return { element, update() {} };
}

const WRITE = {
  loss: number,
  accuracy: percent,
  accuracy_averaged: percent,
  samples: count,
  steps: count,
  rounds: count,
  counts: percent,
};

const TELL = {
  message: ({ text }) => String(text ?? ""),
  state: ({ state, before }) => `${state}, after ${before}`,
  peer: ({ peer, connected }) => `${short(peer)} is ${connected ? "connected" : "gone"}`,
  cut: ({ index, cid }) => `${index} is taken: ${cid}`,
  settled: ({ index, cid }) => `${index} is attested by more than half of the nodes: ${cid}`,
  download: ({ cid, done, size, ended }) =>
    `${ended ? "ended" : "fetching"} at ${bytes(done)} of ${bytes(size)}: ${cid}`,
  paused: ({ reasons }) =>
    Array.isArray(reasons) && reasons.length > 0
      ? reasons.map(({ text }) => text).join("; ")
      : "nothing keeps it from training",
  limits: ({ limits }) => sentence(limits ?? {}) || "none",
};

/** A kind of event, and the event in words. */
const tell = ({ kind, data }) => [clean(kind, 20), (TELL[kind] ?? sentence)(data)];

// Names and values as they come.
function sentence(data) {
  return Object.entries(data)
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${word(name, value)}`)
    .join(", ");
}

function word(name, value) {
  if (Array.isArray(value)) return value.map((each) => word(name, each)).join(", ") || "none";
  if (typeof value === "object") return `(${sentence(value)})`;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Object.hasOwn(WRITE, name)) return WRITE[name](value);
  return typeof value === "number" && !Number.isInteger(value) ? number(value) : String(value);
}
