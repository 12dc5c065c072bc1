// The cuts that are kept here, with their CIDs, and pin and unpin.

import * as api from "../api.js";
import { clean, copier, el, put, say, show } from "../dom.js";
import { ago, bytes, clock, count, number, plural, short } from "../format.js";
import { refresh } from "../state.js";
import { table } from "./table.js";

/** Build it; returns what draws it. */
export function mount(at) {
  const failed = el("p", { class: "failed", role: "alert" });
  let may = false;
  const busy = new Set();

  const carryOut = async (request, cid) => {
    busy.add(cid);
    say(failed, "");
    refresh();
    try {
      await request(cid);
    } catch (error) {
      say(failed, clean(error.message, 600));
    }
    busy.delete(cid);
    refresh("rights", "snapshots", "status");
  };

  const columns = [
    { name: "index", label: "Cut", fill: (cell, cut) => say(cell, String(cut.index)) },
    {
      name: "since",
      label: "Since",
      fill: (cell, cut, now) => {
        say(cell, ago(now - cut.since));
        put(cell, "title", clock(cut.since, now));
      },
    },
    { name: "updates", label: "Updates", side: "right", fill: (cell, cut) => say(cell, count(cut.updates)) },
    { name: "loss", label: "Loss", side: "right", fill: (cell, cut) => say(cell, number(cut.loss)) },
    { name: "size", label: "Size", side: "right", fill: (cell, cut) => say(cell, bytes(cut.size)) },
    {
      name: "attested",
      label: "Attested",
      side: "right",
      fill: (cell, cut) => say(cell, plural(cut.attested_by, "peer")),
    },
    { name: "cid", label: "CID of the cut", fill: (cell, cut) => fillCid(cell, cut.cid, "Copy the CID of the cut") },
    {
      name: "weights",
      label: "of its weights",
      fill: (cell, cut) => fillCid(cell, cut.weights, "Copy the CID of the weights"),
    },
    { name: "kept", label: "Kept", fill: fillKept },
  ];

  function fillKept(cell, cut) {
    if (!cell.parts) {
      const button = el("button", { type: "button", class: "small" });
      button.addEventListener("click", () => carryOut(cell.cut.pinned ? api.unpin : api.pin, cell.cut.cid));
      cell.parts = [el("span"), button];
      cell.append(...cell.parts);
    }
    cell.cut = cut;
    const [why, button] = cell.parts;
    const reasons = [cut.pinned && "pinned", cut.milestone && "milestone"].filter(Boolean);
    say(why, reasons.join(", ") || "for now");
    say(button, cut.pinned ? "Unpin" : "Pin");
    put(button, "aria-label", `${cut.pinned ? "Unpin" : "Pin"} cut ${cut.index}`);
    button.disabled = busy.has(cut.cid);
    show(button, may);
  }

  const grid = table({
    caption: "Snapshots, newest first",
    columns,
    key: (cut) => cut.cid,
    empty: [
      el("strong", { text: "No snapshot yet." }),
      el("p", {
        text: "Every eight slots the swarm takes a cut: the weights with all updates up to a moment, the same on all nodes. The first is kept here once more than half of the nodes attest it.",
      }),
    ],
  });
  const field = el("input", {
    id: "pin-cid",
    type: "text",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "bafyrei…",
    maxlength: 120,
  });
  const form = el(
    "form",
    { class: "inline", hidden: true },
    el("label", { for: "pin-cid", text: "Keep another cut, by its CID:" }),
    field,
    el("button", { type: "submit", class: "small", text: "Fetch and pin" }),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const cid = field.value.trim();
    if (cid) await carryOut(api.pin, cid);
    if (failed.textContent === "") field.value = "";
  });
  const scroller = el(
    "div",
    { class: "scroller", tabindex: 0, role: "region", "aria-label": "Snapshots, newest first" },
    grid.element,
  );
  at("snapshots").append(scroller, form, failed);

  return ({ snapshots, status, rights, failure }, now) => {
    may = Boolean(rights?.verbs) && failure === null;
    show(form, may);
    if (status?.snapshots) {
      const { held, bytes: size, cap } = status.snapshots;
      const ipfs =
        status.ipfs && status.ipfs.state !== "absent"
          ? ` · IPFS ${status.ipfs.state}, ${plural(status.ipfs.pins ?? 0, "pin")}`
          : "";
      say(at("snapshots-count"), `${count(held)} held, ${bytes(size)} of at most ${bytes(cap)}${ipfs}`);
    }
    if (snapshots !== null) grid.draw([...snapshots].reverse(), now);
  };
}

function fillCid(cell, cid, label) {
  if (!cell.parts) {
    cell.parts = el("span", { class: "mono" });
    cell.append(
      cell.parts,
      " ",
      copier(label, () => cell.cid),
    );
  }
  cell.cid = String(cid ?? "");
  say(cell.parts, `…${clean(short(cid), 16)}`);
  put(cell.parts, "title", clean(cid, 120));
}
