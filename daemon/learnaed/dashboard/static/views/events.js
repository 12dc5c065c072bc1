// What happened, as it happens: messages to the user, and what the daemon did; newest first.

import { clean, el, keyed, put, say, show } from "../dom.js";
import { bytes, clock, count, number, percent, short } from "../format.js";

const GROUPS = [
  ["all", null],
  ["messages", ["message"]],
  ["training", ["round", "report"]],
  ["swarm", ["peer", "cut", "settled", "download"]],
  ["control", ["state", "paused", "limits"]],
];

/** Build it; returns what draws it. */
export function mount(at) {
  let wanted = null;
  let last = null;
  const list = el("ol", { class: "log" });
  const empty = el("p", { class: "empty" });
  const live = el("span", { class: "live" });
  at("events").append(el("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": "Events, newest first" }, list), empty);
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
    const shown = wanted === null ? all : all.filter((event) => wanted.includes(event.kind));
    keyed(list, shown, (event) => `${event.id} ${event.time}`, line);
    show(list, shown.length > 0);
    show(empty, shown.length === 0);
    say(empty, all.length === 0 ? "Nothing has happened yet." : "Nothing of this kind lately.");
    say(live, state.streaming ? "live" : "");
  }
  return draw;
}

// For a daemon without events: what it told the user.
function messages(status) {
  return (status.messages ?? []).map(({ time, level, text }, place) => (
    { id: place, kind: "message", time: Date.parse(time) / 1000, data: { level, text } }
  )).reverse();
}

function line(event) {
  const [what, text] = tell(event);
  const level = event.kind === "message" && ["warning", "error"].includes(event.data.level) ? event.data.level : null;
  const element = el("li", { "data-kind": what, "data-level": level },
    el("time", { text: clock(event.time), datetime: new Date(1000 * (event.time || 0)).toISOString() }),
    el("span", { class: "kind", text: level ?? what }),
    el("span", { class: "text", text: clean(text, 600) }));
  return { element, update() {} };
}

const WRITE = {
  loss: number, accuracy: percent, accuracy_averaged: percent, samples: count, steps: count, bytes, size: bytes, done: bytes,
  peer: short, author: short, cid: short, weights: short, digest: short,
};

/** A kind of event, and the event in words. */
function tell({ kind, data }) {
  if (kind === "message") return [kind, String(data.text ?? "")];
  return [clean(kind, 20), sentence(data)];
}

// Names and values as they come: "state training, was alone" would need to know more than a page of another version may.
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
