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
const ROWS = 6000;
const PULSE = 1000; // ms between two looks at what is due
const PATIENCE = 5; // s until a lost stream is asked for again
const RETRY = 60; // s until something that this daemon does not have is asked for again
const RELOAD = 600; // s after which all of the history is fetched anew, as the daemon has thinned it meanwhile

// Seconds after which each answer is fetched again, if no event asks for it before.
const PLANS = {
  rights: { every: 60, read: api.rights },
  status: { every: 5, read: () => api.read("api/status") },
  health: { every: 10, read: api.health },
  peers: { every: 5, read: () => api.read("api/peers") },
  history: { every: 5, read: readHistory },
  updates: { every: 15, read: () => api.read("api/updates?limit=100") },
  snapshots: { every: 30, read: () => api.read("api/snapshots") },
  limits: { every: 30, read: () => api.read("api/limits") },
};

// What an event of each kind makes worth fetching at once.
const STIRS = {
  state: ["status", "peers", "health"],
  message: ["status"],
  peer: ["peers", "status"],
  round: ["status", "updates", "history"],
  report: ["status", "history"],
  cut: ["status", "snapshots"],
  settled: ["status", "snapshots", "peers"],
  download: ["status"],
  paused: ["status", "peers"],
  limits: ["limits", "status"],
};

const due = Object.fromEntries(Object.keys(PLANS).map((name) => [name, 0]));
let changed = () => {};
let happened = () => {};
let leave = null; // ends the stream of events
let timer = null;
let again = 0; // when a lost stream may be asked for again
let loaded = 0; // when all of the history was fetched

/** Keep the state current while the page is seen; `onChange()` after each change, `onEvent(event)` for each new event. */
export function follow(onChange, onEvent) {
  changed = onChange;
  happened = onEvent;
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : wake()));
  wake();
}

/** Fetch these answers now. */
export function refresh(...names) {
  for (const name of names) due[name] = 0;
  if (timer !== null) {
    clearTimeout(timer);
    timer = setTimeout(look, 0);
  }
}

function wake() {
  for (const name of Object.keys(due)) due[name] = 0;
  timer ??= setTimeout(look, 0);
}

// A page in the background asks for nothing and holds no connection: a browser has only six for one daemon.
function rest() {
  clearTimeout(timer);
  timer = null;
  leave?.();
  leave = null;
  state.streaming = false;
}

async function look() {
  const seconds = () => Date.now() / 1000;
  const now = seconds();
  for (const [name, plan] of Object.entries(PLANS)) {
    if (due[name] > now) continue;
    due[name] = now + plan.every; // before the request: what happens meanwhile asks for another
    try {
      state[name] = await plan.read();
      state.missing.delete(name);
      arrived(seconds());
    } catch (error) {
      if (error instanceof api.Unreachable) {
        due[name] = 0;
        state.failure ??= { since: seconds(), why: error.message };
        break; // the others would not be answered either
      }
      due[name] = seconds() + (error.status === 404 ? RETRY : plan.every);
      if (error.status === 404) state.missing.add(name);
      else if (name === "status") state.failure = { since: state.failure?.since ?? seconds(), why: error.message };
    }
    changed();
  }
  changed();
  if (document.hidden) return;
  if (leave === null && state.failure === null && seconds() >= again) await subscribe();
  timer = setTimeout(look, PULSE);
}

function arrived(now) {
  if (state.failure !== null) {
    // It may be another start of the daemon, with other numbers: ask for everything anew.
    state.failure = null;
    loaded = 0;
    for (const name of Object.keys(due)) due[name] = Math.min(due[name], now);
  }
  state.answered = now;
}

async function readHistory() {
  const now = Date.now() / 1000;
  const rows = state.history?.rows ?? [];
  const since = now - loaded > RELOAD || rows.length === 0 ? null : rows.at(-1).time;
  const answer = await api.read(since === null ? "api/history" : `api/history?since=${since}`);
  if (since === null) loaded = now;
  const fresh = since === null ? answer.rows : rows.concat(answer.rows.filter((row) => row.time > since));
  return { every: answer.every, rows: fresh.slice(-ROWS) };
}

async function subscribe() {
  again = Date.now() / 1000 + PATIENCE;
  let since = 0;
  try {
    const past = await api.read("api/events?since=0&wait=0");
    state.events = past.slice(-EVENTS).reverse().map(flat);
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
      state.events = [event, ...state.events].slice(0, EVENTS);
      for (const name of STIRS[event.kind] ?? []) due[name] = 0;
      happened(event);
      changed();
    },
  });
}

// An event of the list may carry its data beside its time, as those of the stream do.
function flat({ id, kind, time, data, ...rest }) {
  return { id: Number(id), kind, time, data: data ?? rest };
}
