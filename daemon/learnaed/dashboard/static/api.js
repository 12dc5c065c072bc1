// All requests to the daemon, and what this page may do there; the only module that knows routes and rights.

const PATIENCE = 8000; // ms for an answer that needs no work; pins may fetch for long and have no limit

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
export function read(path) {
  return ask("GET", path, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(PATIENCE) });
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

/** What this page may do: `{verbs, why}`. */
export const rights = () => read("api/rights");

export const pause = (seconds) => send("POST", seconds === null ? "api/pause" : `api/pause?seconds=${seconds}`);
export const resume = () => send("POST", "api/resume");
export const pin = (cid) => send("POST", `api/snapshots/${encodeURIComponent(cid)}/pin`);
export const unpin = (cid) => send("POST", `api/snapshots/${encodeURIComponent(cid)}/unpin`);
export const limit = (changes) => send("PUT", "api/limits", changes);

function send(method, path, body) {
  const headers = { "X-Learnae": "dashboard" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  return ask(method, path, { headers, body: body === undefined ? undefined : JSON.stringify(body) });
}

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
