// The bar at the top: topic, task, state with its reason, pause and resume.

import * as api from "../api.js";
import { clean, el, put, say, show } from "../dom.js";
import { duration, hour } from "../format.js";
import { refresh } from "../state.js";
import { ENDING, STATES } from "../words.js";

const CHOICES = [
  ["until I resume", () => null],
  ["for 30 minutes", () => 1800],
  ["for 1 hour", () => 3600],
  ["for 4 hours", () => 14400],
  ["until tomorrow, 8:00", untilMorning],
];

/** Build it; returns what draws it. */
export function mount(at) {
  const steering = pauseAndResume(at("announcer"));
  at("steering").append(...steering.elements);
  let last = null;
  return (state, now) => {
    const { status } = state;
    if (!status) return;
    const alive = state.failure === null;
    const [name, why] = alive ? describe(status, now) : ["no answer", "the daemon does not answer"];
    say(at("topic"), clean(status.topic, 64));
    say(at("task"), clean(status.task, 80));
    const pill = at("state");
    say(pill, name);
    put(pill, "data-state", alive ? (status.state in STATES ? status.state : "unknown") : "lost");
    say(at("why"), why);
    document.title = `${name} · ${clean(status.topic, 64)} · learnae`;
    if (last !== null && last !== name) say(at("announcer"), `Now ${name}: ${why}.`);
    last = name;
    steering.draw(state);
  };
}

/** The state in two words, and why. */
function describe(status, now) {
  const reasons = reasonsOf(status);
  if (reasons.length === 0) return [status.state, STATES[status.state] ?? ""];
  const until = reasons.length === 1 && reasons[0].until ? ` until ${hour(reasons[0].until, now)}` : "";
  return [
    status.state === "paused" ? `paused${until}` : status.state,
    reasons.map((each) => because(each, now)).join("; "),
  ];
}

/** One reason for a pause in words, with the time that is left. */
export function because({ reason, text, until }, now) {
  const why = reason === "user" ? "by you" : clean(text);
  return until ? `${why}, ${duration(Math.max(0, until - now))} left` : why;
}

/** Why the node is paused, as the daemon says. */
export const reasonsOf = (status) => status.paused?.reasons ?? [];

function pauseAndResume(announcer) {
  const failed = el("span", { class: "failed", role: "alert" });
  const resume = el("button", { type: "button", id: "resume", class: "primary", text: "Resume" });
  const summary = el("summary", { class: "button", id: "pause", text: "Pause" });
  const menu = el("div", { class: "menu", role: "group", "aria-label": "Pause for how long" });
  const pause = el("details", { class: "dropdown" }, summary, menu);
  const buttons = [resume];

  const carryOut = async (request, what) => {
    for (const button of buttons) button.disabled = true;
    say(failed, "");
    pause.open = false;
    try {
      await request();
      say(announcer, what);
    } catch (error) {
      say(failed, clean(error.message));
    }
    for (const button of buttons) button.disabled = false;
    refresh("rights", "status", "peers");
  };
  for (const [label, seconds] of CHOICES) {
    const button = el("button", { type: "button", text: label });
    button.addEventListener("click", () => carryOut(() => api.pause(seconds()), `Pause asked for ${label}.`));
    menu.append(button);
    buttons.push(button);
  }
  resume.addEventListener("click", () => carryOut(api.resume, "Resume asked for."));
  document.addEventListener("click", (event) => {
    if (!pause.contains(event.target)) pause.open = false;
  });
  pause.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !pause.open) return;
    pause.open = false;
    summary.focus();
  });
  const draw = ({ status, rights, failure }) => {
    const may = rights?.verbs && failure === null && !ENDING.includes(status.state);
    const reasons = reasonsOf(status);
    const byUser =
      reasons.some((each) => each.reason === "user") || (reasons.length === 0 && status.state === "paused");
    show(resume, Boolean(may && byUser));
    show(pause, Boolean(may && !byUser));
  };
  return { elements: [failed, pause, resume], draw };
}

function untilMorning() {
  const morning = new Date();
  morning.setDate(morning.getDate() + 1);
  morning.setHours(8, 0, 0, 0);
  return Math.round((morning - Date.now()) / 1000);
}
