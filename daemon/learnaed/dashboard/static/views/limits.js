// What the node may take of this PC, and when; changed here where the page has the right to.

import * as api from "../api.js";
import { clean, el, prose, put, say, show } from "../dom.js";
import { refresh } from "../state.js";

// Name, title, what it says, and how it is asked for. What the daemon has beyond these is shown as it is.
const KNOWN = [
  ["hours", "Hours", "trains then only", { hint: "22:00-07:00, sat, sun" }],
  ["idle_after", "Idle", "trains once nobody has used the PC for", { hint: "10m" }],
  ["on_battery", "On battery", "", { choices: ["pause", "run"] }],
  ["cpu", "CPU", "of all cores", { hint: "50%" }],
  ["threads", "Threads", "of one training step", { hint: "4", type: "number" }],
  ["nice", "Nice", "0 to 19: gives way to other programs", { hint: "10", type: "number" }],
  ["gpu", "GPU", "may be used", { choices: [true, false] }],
  ["ram", "Memory", "of daemon and trainer", { hint: "4GiB" }],
  ["disk", "Disk", "snapshots, database, logs", { hint: "20GB" }],
  ["upload", "Upload", "to all peers together", { hint: "1MB/s" }],
  ["download", "Download", "from all peers together", { hint: "8Mbit/s" }],
];
const WORDS = { true: "yes", false: "no", pause: "pause", run: "train on" };

/** Build it; returns what draws it. */
export function mount(at) {
  const form = el("form", { class: "limits", novalidate: true, hidden: true });
  const grid = el("div", { class: "fields" });
  const save = el("button", { type: "submit", class: "primary small", text: "Save" });
  const undo = el("button", { type: "button", class: "small", text: "Undo" });
  const told = el("p", { class: "hint", role: "status" });
  const failed = el("p", { class: "failed", role: "alert" });
  const buttons = el("div", { class: "row" }, save, undo, told);
  const none = el("p", { class: "empty", hidden: true, text: "This daemon says nothing of limits." });
  form.append(grid, buttons, failed);
  at("limits").append(form, none);
  const fields = new Map();
  let current = {};

  const changes = () =>
    Object.fromEntries(
      [...fields]
        .filter(([name, field]) => field.value() !== shown(current[name]))
        .map(([name, field]) => [name, field.typed()]),
    );
  const compare = () => {
    const some = Object.keys(changes()).length > 0;
    save.disabled = undo.disabled = !some;
    for (const [name, field] of fields) put(field.element, "data-changed", field.value() !== shown(current[name]));
  };
  const fill = (limits) => {
    for (const [name, value] of Object.entries(limits)) {
      if (!fields.has(name)) {
        fields.set(name, field(name, compare));
        grid.append(fields.get(name).element);
      }
      const untouched = fields.get(name).value() === shown(current[name]) || !(name in current);
      if (untouched) fields.get(name).put(value);
    }
    current = limits;
    compare();
  };
  undo.addEventListener("click", () => {
    for (const [name, each] of fields) each.put(current[name]);
    say(failed, "");
    compare();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const wanted = changes();
    save.disabled = true;
    say(failed, "");
    prose(told, "");
    try {
      const answer = await api.limit(wanted);
      for (const name of Object.keys(wanted)) fields.get(name).put(answer?.[name] ?? null);
      fill({ ...current, ...answer });
      prose(told, "Saved until the daemon ends; `learnae config set` keeps it for good.");
    } catch (error) {
      say(failed, clean(error.message, 600));
    }
    compare();
    refresh("rights", "limits", "status");
  });

  return ({ limits, rights, failure, missing }) => {
    const values = limits ?? {};
    const some = Object.keys(values).length > 0;
    show(form, some);
    show(none, !some && (limits !== null || missing.has("limits")));
    if (!some) return;
    const may = Boolean(rights?.verbs) && failure === null;
    if (JSON.stringify(values) !== JSON.stringify(current)) fill(values);
    for (const each of fields.values()) each.enable(may);
    show(buttons, may);
  };
}

const shown = (value) => (value === null || value === undefined ? "" : String(value));

function field(name, changed) {
  const [, title, what, { hint, choices, type }] = KNOWN.find(([known]) => known === name) ?? [
    name,
    clean(name, 30).replaceAll("_", " "),
    "",
    {},
  ];
  const id = `limit-${name}`;
  const input = choices
    ? el(
        "select",
        { id, name },
        ...choices.map((choice) => el("option", { value: String(choice), text: WORDS[choice] })),
      )
    : el("input", {
        id,
        name,
        type: "text",
        inputmode: type === "number" ? "numeric" : null,
        autocomplete: "off",
        spellcheck: "false",
        maxlength: 120,
      });
  for (const kind of ["input", "change"]) input.addEventListener(kind, changed);
  const element = el(
    "div",
    { class: "field" },
    el("label", { for: id }, title, what ? el("small", { text: ` ${what}` }) : null),
    input,
  );
  let original = null;
  return {
    element,
    value: () => input.value.trim(),
    typed() {
      const text = input.value.trim();
      if (typeof original === "boolean") return text === "true";
      return text === "" ? null : text;
    },
    put(value) {
      original = value;
      input.value = shown(value);
    },
    enable(may) {
      input.disabled = !may;
      if (!choices) put(input, "placeholder", may ? `no limit; e.g. ${hint ?? "…"}` : "no limit");
    },
  };
}
