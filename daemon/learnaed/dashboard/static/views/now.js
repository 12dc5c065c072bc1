// The one number that matters and how it moves, and the few that explain it.

import { el, keyed, put, say, svg } from "../dom.js";
import { bytes, count, duration, number, percent, plural, rate, short } from "../format.js";

const WINDOW = 600; // seconds over which the movement is told

/** Build it; returns what draws it. */
export function mount(at) {
  const label = el("p", { class: "label" });
  const value = el("p", { class: "value", id: "headline" });
  const unit = el("span", { class: "unit" });
  const figure = el("span");
  value.append(figure, unit);
  const trend = el("p", { class: "trend", id: "trend" });
  const area = svg("polygon");
  const line = svg("polyline", { fill: "none" });
  const spark = svg(
    "svg",
    { class: "spark", viewBox: "0 0 200 48", preserveAspectRatio: "none", "aria-hidden": "true" },
    area,
    line,
  );
  const facts = el("dl", { class: "facts" });
  at("now").append(el("div", { class: "headline" }, label, value, trend, spark), facts);
  return (state) => {
    const { status, history } = state;
    if (!status) return;
    const rows = history?.rows ?? [];
    const main = headline(status.trainer);
    say(label, main.label);
    say(figure, main.figure);
    say(unit, main.unit);
    const moved = movement(rows, main.field);
    say(trend, moved === null ? main.hint : main.tell(moved));
    put(
      trend,
      "data-way",
      moved === null || moved.change === 0 ? "level" : moved.change > 0 === main.more ? "better" : "worse",
    );
    const path = points(rows, main.field);
    put(line, "points", path);
    put(area, "points", path && `0,48 ${path} 200,48`);
    keyed(facts, tell(status, rows), (fact) => fact.name, factRow);
  };
}

function headline(trainer) {
  const averaged = trainer.accuracy_averaged !== null && trainer.accuracy_averaged !== undefined;
  const accuracy = averaged ? trainer.accuracy_averaged : trainer.accuracy;
  if (accuracy !== null && accuracy !== undefined) {
    return {
      label: averaged ? "Held-out accuracy, averaged weights" : "Held-out accuracy",
      figure: (100 * accuracy).toFixed(1),
      unit: "%",
      field: averaged ? "accuracy_averaged" : "accuracy",
      more: true,
      hint: "",
      tell: ({ change, seconds }) => moving(change, `${Math.abs(100 * change).toFixed(1)} points`, seconds),
    };
  }
  const known = trainer.loss !== null && trainer.loss !== undefined;
  return {
    label: "Training loss",
    figure: number(trainer.loss),
    unit: "",
    field: "loss",
    more: false,
    hint: known ? "" : "It comes with the first round.",
    tell: ({ change, seconds }) => moving(change, number(Math.abs(change)), seconds),
  };
}

function moving(change, size, seconds) {
  const window = `in ${duration(seconds)}`;
  if (change === 0) return `unchanged ${window}`;
  return `${change > 0 ? "▲ up" : "▼ down"} ${size} ${window}`;
}

function movement(rows, field) {
  const known = rows.filter((row) => typeof row[field] === "number");
  if (known.length < 2) return null;
  const last = known.at(-1);
  const first = known.find((row) => row.time >= last.time - WINDOW);
  if (first === last) return null;
  return { change: last[field] - first[field], seconds: last.time - first.time };
}

function points(rows, field) {
  const known = rows.filter((row) => typeof row[field] === "number");
  if (known.length < 2) return "";
  const start = known[0].time;
  const span = known.at(-1).time - start || 1;
  const values = known.map((row) => row[field]);
  const least = Math.min(...values);
  const height = Math.max(...values) - least || 1;
  const step = Math.max(1, Math.floor(known.length / 200));
  return known
    .filter((_, place) => place % step === 0 || place === known.length - 1)
    .map(
      (row) =>
        `${((200 * (row.time - start)) / span).toFixed(1)},${(45 - (42 * (row[field] - least)) / height).toFixed(1)}`,
    )
    .join(" ");
}

function tell(status, rows) {
  const { trainer, ledger, network } = status;
  const [sent, received] = speeds(rows);
  const parts = [];
  const add = (name, value, detail) => parts.push({ name, value, detail });
  if (trainer.accuracy !== null && trainer.accuracy !== undefined)
    add("Loss", number(trainer.loss), `round ${count(trainer.rounds)}`);
  else add("Rounds", count(trainer.rounds), "of this node");
  add("Others here", count(status.members), `${plural(network.peers, "peer")} connected`);
  add(
    "Updates",
    count(ledger.updates),
    `by ${plural(ledger.authors, "node")}${ledger.missing ? `, ${ledger.missing} on the way` : ""}`,
  );
  add("Speed", `${number(trainer.steps_per_second)} steps/s`, `${number(trainer.samples_per_second)} samples/s`);
  add("Share of the work", percent(status.share, 0), `${count(trainer.samples)} samples so far`);
  add("Sending", rate(sent), `${bytes(network.bytes_sent)} in all`);
  add("Receiving", rate(received), `${bytes(network.bytes_received)} in all`);
  add("Running for", duration(status.uptime), `weights ${short(trainer.digest)}`);
  return parts;
}

function speeds(rows) {
  const last = rows.at(-1);
  const before = rows.findLast((row) => row.time <= (last?.time ?? 0) - 10) ?? rows[0];
  if (!last || last.time <= before.time) return [null, null];
  return ["bytes_sent", "bytes_received"].map(
    (field) => Math.max(0, last[field] - before[field]) / (last.time - before.time),
  );
}

function factRow({ name }) {
  const value = el("dd");
  const detail = el("dd", { class: "muted" });
  const element = el("div", {}, el("dt", { text: name }), value, detail);
  const update = (fact) => {
    say(value, fact.value);
    say(detail, fact.detail);
  };
  return { element, update };
}
