// The charts and the range of time that they share.

import { el, put, say, show } from "../dom.js";
import { bytes, number, percent, rate } from "../format.js";
import { plot } from "./plot.js";

const SPANS = [
  ["15 min", 900],
  ["1 h", 3600],
  ["6 h", 21600],
  ["24 h", 86400],
  ["all", null],
];
const SHORTEST = 10; // seconds

const known = (value) => (typeof value === "number" ? value : null);

/** Build them; returns what draws them. */
export function mount(at) {
  let rows = [];
  const view = new View(at("range"), () => {
    for (const chart of charts) chart.redraw();
  });
  const charts = [
    plot(at("chart-accuracy"), {
      title: "Accuracy",
      view,
      write: (value) => percent(value),
      mark: (value) => `${Number((100 * value).toPrecision(4))} %`,
      bounds: [0, 1],
      series: [
        {
          label: "averaged",
          colour: "--accent",
          fill: "--accent-wash",
          width: 2.2,
          value: (row) => known(row.accuracy_averaged),
        },
        { label: "now", colour: "--faint", width: 1.4, value: (row) => known(row.accuracy) },
      ],
      empty: "No accuracy yet: it comes with the first evaluation. A task that has no accuracy shows its loss alone.",
    }),
    plot(at("chart-loss"), {
      title: "Loss",
      view,
      write: number,
      mark: (value) => String(Number(value.toPrecision(4))),
      bounds: [null, null],
      series: [{ label: "training", colour: "--warm", fill: "--warm-wash", value: (row) => known(row.loss) }],
      empty: "No loss yet: it comes with the first round, after the trainer has loaded model and data.",
    }),
    plot(at("chart-bandwidth"), {
      title: "With peers",
      view,
      write: rate,
      mark: (value) => rate(value).replace(".0 ", " "),
      bounds: [0, null, 2000],
      series: [
        {
          label: "sent",
          colour: "--cool",
          fill: "--cool-wash",
          value: (row, before) => speed(row, before, "bytes_sent"),
        },
        { label: "received", colour: "--violet", value: (row, before) => speed(row, before, "bytes_received") },
      ],
      empty: "Nothing measured yet.",
    }),
  ];
  return ({ history, status }) => {
    if (status)
      say(
        at("bandwidth-total"),
        `${bytes(status.network.bytes_sent)} sent, ${bytes(status.network.bytes_received)} received`,
      );
    if (history === null || history.rows === rows) return;
    rows = history.rows;
    view.grow(rows);
    for (const chart of charts) chart.draw(rows);
    show(at("chart-hint"), rows.length > 1);
  };
}

// The counters begin again with the daemon: no rate between two starts.
function speed(row, before, field) {
  if (!before || row.time <= before.time || row[field] < before[field]) return null;
  return (row[field] - before[field]) / (row.time - before.time);
}

/** The range of time: the last so many seconds, which moves on, or one that the user chose, which stays. */
class View {
  #bounds = [0, 1];
  #chosen = null;
  #span = null;
  #changed;
  #buttons = new Map();
  #reset;

  constructor(place, changed) {
    this.#changed = changed;
    this.#reset = el("button", { type: "button", text: "⟲ whole range", hidden: true });
    this.#reset.addEventListener("click", () => this.reset());
    place.append(this.#reset);
    for (const [label, span] of SPANS) {
      const button = el("button", { type: "button", text: label });
      button.addEventListener("click", () => this.follow(span));
      this.#buttons.set(span, button);
      place.append(button);
    }
    this.#show();
  }

  /** What the data spans now. */
  grow(rows) {
    if (rows.length > 0) this.#bounds = [rows[0].time, Math.max(rows.at(-1).time, rows[0].time + 1)];
  }

  range() {
    if (this.#chosen !== null) return this.#chosen;
    const [first, last] = this.#bounds;
    return [this.#span === null ? first : Math.max(first, last - this.#span), last];
  }

  follow(span) {
    this.#span = span;
    this.reset();
  }

  fix(from, to) {
    const [first, last] = this.#bounds;
    const low = Math.max(first, from);
    const high = Math.min(last, to);
    this.#chosen = high - low >= SHORTEST ? [low, high] : this.#chosen;
    this.#show();
    this.#changed();
  }

  reset() {
    this.#chosen = null;
    this.#show();
    this.#changed();
  }

  /** + and − look closer and wider, arrows go back and forth, 0 shows all of the range. */
  key(event) {
    const [from, to] = this.range();
    const step = (to - from) / 4;
    const moves = {
      "+": [step, -step],
      "=": [step, -step],
      "-": [-step, step],
      ArrowLeft: [-step, -step],
      ArrowRight: [step, step],
    };
    if (event.key === "0" || event.key === "Escape") this.reset();
    else if (event.key in moves) this.#move(from, to, ...moves[event.key]);
    else return;
    event.preventDefault();
  }

  // At an end of the data the view stops, and keeps its length.
  #move(from, to, left, right) {
    const [first, last] = this.#bounds;
    const shift = left === right ? Math.min(Math.max(left, first - from), last - to) : null;
    if (shift !== null) this.fix(from + shift, to + shift);
    else if (from + left <= first && to + right >= last) this.reset();
    else this.fix(from + left, to + right);
  }

  #show() {
    for (const [span, button] of this.#buttons)
      put(button, "aria-pressed", String(this.#chosen === null && span === this.#span));
    this.#reset.hidden = this.#chosen === null;
  }
}
