// Which updates came in, what each counts, and what was refused or dropped, with the meaning of each reason.

import { clean, el, keyed, put, say, show } from "../dom.js";
import { ago, bytes, count, number, percent, plural, short } from "../format.js";
import { DROPS, REFUSALS } from "../words.js";
import { table } from "./table.js";

const HARMLESS = ["duplicate"];

/** Build both lists; returns what draws them. */
export function mount(at) {
  let status = null;
  const age = ({ slot }, now) => (status?.slot_seconds ? now - (slot + 1) * status.slot_seconds : null);
  const columns = [
    {
      name: "when",
      label: "When",
      fill: (cell, update, now) => {
        say(cell, ago(Math.max(0, age(update, now))));
        put(cell, "title", `slot ${update.slot}, interval ${update.interval}`);
      },
    },
    {
      name: "author",
      label: "By",
      fill: (cell, { author }) => {
        say(cell, author === status?.peer ? "this node" : clean(short(author), 16));
        put(cell, "title", clean(author, 120));
      },
    },
    { name: "samples", label: "Samples", side: "right", fill: (cell, update) => say(cell, count(update.samples)) },
    { name: "loss", label: "Loss", side: "right", fill: (cell, update) => say(cell, number(update.loss)) },
    { name: "norm", label: "Norm", side: "right", fill: (cell, update) => say(cell, number(update.norm)) },
    { name: "bytes", label: "Size", side: "right", fill: (cell, update) => say(cell, bytes(update.bytes)) },
    { name: "counts", label: "Counts", side: "right", fill: fillCounts },
  ];
  const grid = table({
    caption: "Updates that were admitted, newest first",
    columns,
    key: (update) => `${update.author} ${update.seq}`,
    empty: [
      el("strong", { text: "No update yet." }),
      el("p", { text: "A node publishes one at the end of each round; the first takes a few slots." }),
    ],
  });
  const scroller = el(
    "div",
    { class: "scroller", tabindex: 0, role: "region", "aria-label": "Updates, newest first" },
    grid.element,
  );
  at("updates").append(scroller);

  const refused = el("ul", { class: "reasons" });
  const fine = el("p", {
    class: "empty",
    hidden: true,
    text: "Nothing was refused. Each update and each message is checked before it counts; what fails would be told here, with the reason.",
  });
  at("refused").append(refused, fine);

  return (state, now) => {
    ({ status } = state);
    if (!status) return;
    const { ledger, refused: counts, network } = status;
    if (state.updates !== null) grid.draw(state.updates, now);
    const clipped = ledger.clipped ? `, ${count(ledger.clipped)} count in part` : "";
    say(at("updates-count"), `${count(ledger.updates)} admitted, by ${plural(ledger.authors, "node")}${clipped}`);
    const reasons = [...told("update", counts, REFUSALS), ...told("network", network.dropped, DROPS)];
    keyed(refused, reasons, (reason) => `${reason.from} ${reason.name}`, reasonRow);
    const total = (from) => reasons.reduce((sum, reason) => sum + (reason.from === from ? reason.many : 0), 0);
    say(
      at("refused-count"),
      reasons.length === 0 ? "" : `${plural(total("update"), "update")}, ${plural(total("network"), "message")}`,
    );
    show(fine, reasons.length === 0);
  };
}

function fillCounts(cell, update) {
  if (!cell.parts) {
    cell.parts = [el("meter", { min: 0, max: 1, "aria-hidden": "true" }), el("span")];
    cell.append(...cell.parts);
  }
  const [meter, text] = cell.parts;
  const whole = typeof update.counts === "number" ? update.counts : null;
  show(meter, !update.void && whole !== null && whole < 1);
  meter.value = whole ?? 0;
  say(text, update.void ? "void" : whole === null ? "–" : whole >= 1 ? "fully" : percent(whole, 0));
  put(
    cell,
    "title",
    update.void
      ? REFUSALS.void
      : whole !== null && whole < 1
        ? "it was too large, or claimed too much of the work: it counts in part, the same on every node"
        : null,
  );
}

function told(from, counts, meanings) {
  return Object.entries(counts ?? {})
    .filter(([, many]) => many > 0)
    .sort((a, b) => b[1] - a[1])
    .map(([name, many]) => ({ from, name, many, meaning: Object.hasOwn(meanings, name) ? meanings[name] : "" }));
}

function reasonRow({ from, name, meaning }) {
  const many = el("b");
  const element = el(
    "li",
    { "data-harmless": HARMLESS.includes(name) },
    el(
      "div",
      {},
      el("span", { class: "reason", text: clean(name, 60) }),
      el("span", { class: "muted", text: from === "update" ? "update" : "network" }),
      many,
    ),
    el("p", { text: meaning }),
  );
  return { element, update: (reason) => say(many, count(reason.many)) };
}
