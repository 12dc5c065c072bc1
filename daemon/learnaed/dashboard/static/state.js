// What the page knows of the daemon, and the loop that keeps it current; read by the views, changed only here.

import * as api from "./api.js";

/** Answers of the daemon by name (null before the first), the last events, and how the connection stands. */
export const state = {
  status: null,
  health: null,
  peers: null,
  history: null,
  updates: null,
  snapshots: null,
  limits: null,
  rights: null,
  events: [],
  missing: new Set(), // answers that this daemon does not give
  answered: null, // when it last answered, in seconds since 1970
  failure: null, // what keeps it from answering now
  streaming: false,
};

const EVENTS = 300;
const ROUTINE = 100; // of these, most that come each round: they are not to push out the rest
const ROWS = 6000;
const PULSE = 1000; // ms between two looks at what is due
const PATIENCE = 5; // s until a lost stream is asked for again
const RETRY = 60; // s until something that this daemon does not have is asked for again
const RELOAD = 600; // s after which all of the history is fetched anew, as the daemon has thinned it meanwhile

// Seconds after which each answer is fetched again, and those that must pass even where events ask for it.
const PLANS = {
  rights: { every: 60, least: 0, read: api.rights },
  status: { every: 5, least: 1, read: () => api.read("api/status") },
  health: { every: 10, least: 2, read: api.health },
  peers: { every: 5, least: 2, read: () => api.read("api/peers") },
  history: { every: 5, least: 2, read: readHistory },
  updates: { every: 15, least: 5, read: () => api.read("api/updates?limit=100") },
  snapshots: { every: 30, least: 2, read: () => api.read("api/snapshots") },
  limits: { every: 30, least: 1, read: () => api.read("api/limits") },
};

// What an event of each kind makes worth fetching. The history has a row every five seconds, whatever happens.
const STIRS = {
  state: ["status", "peers", "health"],
  message: ["status"],
  peer: ["peers", "status"],
  round: ["status", "updates"],
  report: ["status"],
  cut: ["status", "snapshots"],
  settled: ["status", "snapshots", "peers"],
  download: ["status"],
  paused: ["status", "peers"],
  limits: ["limits", "status"],
};

const asked = Object.fromEntries(Object.keys(PLANS).map((name) => [name, 0]));
const due = Object.fromEntries(Object.keys(PLANS).map((name) => [name, 0]));
let changed = () => {};
let leave = null; // ends the stream of events
let timer = null; // of the next look
let looking = false;
let hurry = false; // look again at once
let again = 0; // when a lost stream may be asked for again
let loaded = 0; // when all of the history was fetched

/** Keep the state current while the page is seen; `onChange()` after each change. */
export function follow(onChange) {
  changed = onChange;
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : refresh(...Object.keys(PLANS))));
  refresh();
}

/** Fetch these answers now. */
export function refresh(...names) {
  for (const name of names) due[name] = 0;
  hurry = true;
  if (!looking) soon(0);
}

// A page in the background asks for nothing and holds no connection: a browser has only six for one daemon.
function rest() {
  clearTimeout(timer);
  leave?.();
  leave = null;
  state.streaming = false;
}

function soon(delay) {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, delay);
}

// One look at a time, and in it one request at a time.
async function look() {
  looking = true;
  hurry = false;
  try {
    await update();
    if (leave === null && state.failure === null && seconds() >= again && !document.hidden) await subscribe();
  } finally {
    looking = false;
    soon(hurry ? 0 : PULSE);
  }
}

async function update() {
  const began = seconds();
  for (const [name, plan] of Object.entries(PLANS)) {
    if (due[name] > began || document.hidden) continue;
    if (!(await fetched(name, plan))) break; // the others would not be answered either
    changed();
  }
  changed();
}

// Whether the daemon answered.
async function fetched(name, plan) {
  asked[name] = seconds();
  due[name] = asked[name] + plan.every; // before the request: what happens meanwhile asks for another
  try {
    state[name] = await plan.read();
  } catch (error) {
    if (error instanceof api.Unreachable) {
      due[name] = 0;
      state.failure = { since: state.failure?.since ?? seconds(), why: error.message, lost: true };
      return false;
    }
    if (error.status === 404) {
      due[name] = seconds() + RETRY;
      state.missing.add(name);
    } else if (name === "status") {
      state.failure = { since: state.failure?.since ?? seconds(), why: error.message, lost: false };
    }
    return true;
  }
  state.missing.delete(name);
  state.answered = seconds();
  if (state.failure?.lost) {
    // It may be another start of the daemon, with other numbers: ask for everything anew.
    loaded = 0;
    for (const other of Object.keys(due)) if (other !== name) due[other] = 0;
    hurry = true;
  }
  if (state.failure?.lost || name === "status") state.failure = null;
  return true;
}

const seconds = () => Date.now() / 1000;

async function readHistory() {
  const now = seconds();
  const rows = state.history?.rows ?? [];
  const since = now - loaded > RELOAD || rows.length === 0 ? null : rows.at(-1).time;
  const answer = await api.read(since === null ? "api/history" : `api/history?since=${since}`);
  if (since === null) loaded = now;
  const fresh = since === null ? answer.rows : rows.concat(answer.rows.filter((row) => row.time > since));
  return { every: answer.every, rows: fresh.slice(-ROWS) };
}

async function subscribe() {
  again = seconds() + PATIENCE;
  let since = 0;
  try {
    const past = await api.read("api/events?since=0&wait=0");
    state.events = kept(past.reverse());
    since = state.events[0]?.id ?? 0;
    state.missing.delete("events");
  } catch (error) {
    if (error.status === 404) state.missing.add("events");
    return;
  }
  if (document.hidden) return;
  leave = api.listen(since, Object.keys(STIRS), {
    open() {
      state.streaming = true;
      changed();
    },
    lost() {
      // Begun anew after a look at the past: the daemon may be another start, whose numbers begin again.
      leave?.();
      leave = null;
      state.streaming = false;
      refresh("status");
      changed();
    },
    event(event) {
      if (state.events.some((known) => known.id === event.id)) return;
      state.events = kept([event, ...state.events]);
      for (const name of STIRS[event.kind]) due[name] = Math.min(due[name], asked[name] + PLANS[name].least);
      changed();
    },
  });
}

// The newest, of the routine ones fewer.
function kept(events) {
  let routine = 0;
  return events.filter(({ kind }) => (kind !== "round" && kind !== "report") || ++routine <= ROUTINE).slice(0, EVENTS);
}
