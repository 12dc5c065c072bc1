// All requests to the daemon, and what this page may do there; the only module that knows routes and rights.

// Reading is free on this PC. To change anything the page needs a key, which `learnae dashboard` gives it behind the # of
// its address. It is kept in the storage of this host and port, and sent as a bearer token; it ends with the daemon.
const STORE = "learnae.key";
const HOW =
  "to pause, pin or change limits, say `learnae dashboard` in a terminal: it opens this page with the right to.";

const PATIENCE = 8000; // ms for an answer that needs no work; pins may fetch for long and have no limit

const offered = take();
let key = offered; // or the stored one, once `rights` has asked

/** The daemon said no: `status` is the HTTP status, the message is the daemon's own. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The daemon did not answer. */
export class Unreachable extends Error {}

/** The JSON at `path`. Raises Refused or Unreachable. */
export function read(path, bearer = key) {
  return ask("GET", path, {
    headers: headers({ Accept: "application/json" }, bearer),
    signal: AbortSignal.timeout(PATIENCE),
  });
}

/** What /healthz says: `{healthy, detail}`. */
export async function health() {
  try {
    return await read("healthz");
  } catch (error) {
    if (error instanceof Refused && error.answer) return error.answer;
    throw error;
  }
}

/** What this page may do: `{verbs, why}`. Keeps the key that the page was opened with, if it is good. */
export async function rights() {
  for (const candidate of new Set([offered, stored()])) {
    if (candidate === null) continue;
    const { steer } = await read("api/session", candidate);
    if (!steer) continue;
    key = candidate;
    store(key);
    return { verbs: true, why: "" };
  }
  key = null;
  return { verbs: false, why: HOW };
}

export const pause = (seconds) => send("POST", seconds === null ? "api/pause" : `api/pause?seconds=${seconds}`);
export const resume = () => send("POST", "api/resume");
export const pin = (cid) => send("POST", `api/snapshots/${encodeURIComponent(cid)}/pin`);
export const unpin = (cid) => send("POST", `api/snapshots/${encodeURIComponent(cid)}/unpin`);
export const limit = (changes) => send("PUT", "api/limits", changes);

function send(method, path, body) {
  const content = body === undefined ? {} : { body: JSON.stringify(body) };
  return ask(method, path, {
    headers: headers(content.body ? { "Content-Type": "application/json" } : {}, key),
    ...content,
  });
}

const headers = (own, bearer) => (bearer === null ? own : { ...own, Authorization: `Bearer ${bearer}` });

async function ask(method, path, options) {
  let answer;
  try {
    answer = await fetch(path, { method, cache: "no-store", credentials: "same-origin", ...options });
  } catch (error) {
    throw new Unreachable("the daemon does not answer", { cause: error });
  }
  let content = null;
  try {
    content = await answer.json();
  } catch {
    if (answer.ok) throw new Unreachable("the daemon's answer was cut off");
  }
  if (answer.ok) return content;
  const refused = new Refused(answer.status, String(content?.error ?? `the daemon answered ${answer.status}`));
  refused.answer = content;
  throw refused;
}

// The key in the address, which is cleared at once: it is not to stay in the history, or in what is copied from there.
function take() {
  const found = /^#key=([\w-]{20,200})$/.exec(location.hash);
  if (found === null) return null;
  history.replaceState(null, "", location.pathname);
  return found[1];
}

function stored() {
  try {
    return localStorage.getItem(STORE);
  } catch {
    return key;
  }
}

function store(value) {
  try {
    localStorage.setItem(STORE, value);
  } catch {
    // Kept for this page alone.
  }
}

/**
 * The live stream of events from number `since` on. `on.event({id, kind, time, data})` for each, `on.open()` and
 * `on.lost()` as the connection comes and goes; the browser connects again by itself. Returns a function that ends it.
 */
export function listen(since, kinds, on) {
  const source = new EventSource(since ? `api/events?since=${since}` : "api/events");
  source.onopen = on.open;
  source.onerror = on.lost;
  for (const kind of kinds) {
    source.addEventListener(kind, (message) => {
      let content;
      try {
        content = JSON.parse(message.data);
      } catch {
        return;
      }
      const { time, ...data } = content;
      on.event({ id: Number(message.lastEventId), kind, time, data });
    });
  }
  return () => source.close();
}
