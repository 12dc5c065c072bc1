// What the user should know before anything else: no answer, a fault, why it is paused, what the page may not do.

import { clean, el, keyed, prose, put, say } from "../dom.js";
import { ago, bytes, clock, duration } from "../format.js";
import { ENDING } from "../words.js";
import { because, reasonsOf } from "./header.js";

/** Build them; returns what draws them. */
export function mount(at) {
  const place = at("banners");
  return (state, now) => keyed(place, notes(state, now), (note) => note.name, banner);
}

function banner({ tone }) {
  const title = el("strong");
  const text = el("span");
  const bar = el("progress", { max: 1 });
  // A loss of contact is told at once; the rest is no reason to interrupt a screen reader.
  const element = el("div", { class: "banner", role: tone === "bad" ? "alert" : "note" }, title, " ", text, bar);
  const update = (note) => {
    put(element, "data-tone", note.tone);
    put(element, "data-name", note.name);
    say(title, note.title);
    prose(text, note.text);
    bar.hidden = note.done === undefined;
    if (note.done !== undefined) bar.value = note.done;
  };
  return { element, update };
}

function notes(state, now) {
  const { status, health, rights, failure, answered } = state;
  const found = [];
  const add = (name, tone, title, text, done) => found.push({ name, tone, title, text, done });
  if (failure !== null) {
    const last = answered === null ? "" : ` What you see is from ${clock(answered, now)}, ${ago(now - answered)}.`;
    add(
      "lost",
      "bad",
      "No answer.",
      `${upper(failure.why)}.${last} It may have been stopped: \`learnae status\` tells. This page tries again by itself.`,
    );
  }
  if (!status || failure !== null) return found;
  if (health && !health.healthy) add("health", "bad", "Not at work:", clean(health.detail));
  if (status.paused && !ENDING.includes(status.state)) {
    for (const [place, reason] of reasonsOf(status).entries()) {
      const until = reason.until
        ? `, until ${clock(reason.until, now)}`
        : reason.reason === "user"
          ? ", until you resume"
          : "";
      add(
        `paused-${place}`,
        "quiet",
        "Paused:",
        `${because(reason, now)}${until}. Updates of others are still stored, merged and served.`,
      );
    }
  }
  const { adopting } = status.cuts ?? {};
  const { fetching } = status.snapshots ?? {};
  if (fetching)
    add(
      "fetching",
      "quiet",
      "Fetching a snapshot:",
      progress(fetching),
      fetching.size ? fetching.done / fetching.size : 0,
    );
  if (adopting) add("adopting", "quiet", "Going over to the weights of others:", clean(adopting));
  if (status.clock_offset) {
    const way = status.clock_offset > 0 ? "behind" : "ahead of";
    add(
      "clock",
      "warn",
      "Clock:",
      `this PC is ${duration(Math.abs(status.clock_offset))} ${way} the swarm. Set it right, or turn on time synchronisation.`,
    );
  }
  if (rights && !rights.verbs) add("rights", "quiet", "Read-only:", rights.why);
  return found;
}

function progress({ done, size, speed, seconds_left, holders }) {
  const parts = [`${bytes(done)} of ${bytes(size)}`];
  if (speed) parts.push(`${bytes(speed)}/s`);
  if (seconds_left !== null && seconds_left !== undefined) parts.push(`${duration(seconds_left)} left`);
  return `${parts.join(", ")}, from ${holders} peer${holders === 1 ? "" : "s"}`;
}

const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);
