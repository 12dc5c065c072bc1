// Makes and updates elements; used by all views. Text is only ever set as text, never parsed as HTML.

const kept = new WeakMap(); // parent -> its rows
const SVG = "http://www.w3.org/2000/svg";
// Characters that hide or reorder text: a peer may put them into what it says of itself.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

/** Text of others, fit to be shown: one line, no hidden characters, at most `most` of them. */
export function clean(value, most = 300) {
  const text = String(value ?? "")
    .slice(0, 4 * most)
    .replace(HIDDEN, "\ufffd");
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** An element with attributes (`on…` are listeners, `text` is its text) and children (elements or strings). */
export function el(name, attributes = {}, ...children) {
  return build(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, name), attributes, children);
}

function build(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "text") element.textContent = value;
    else put(element, key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set an attribute, or remove it where the value is null or false; nothing happens where it is so already. */
export function put(element, key, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(key);
  else if (element.getAttribute(key) !== String(value === true ? "" : value))
    element.setAttribute(key, value === true ? "" : value);
}

/** Set the text, unless it is so already: selections and screen readers are left in peace. */
export function say(element, text) {
  const value = String(text ?? "");
  if (element.textContent !== value) element.textContent = value;
}

/** Set the text, with what stands between backticks as code. */
export function prose(element, text) {
  if (element.dataset.text === text) return;
  element.dataset.text = text;
  element.replaceChildren(...text.split("`").map((part, place) => (place % 2 ? el("code", { text: part }) : part)));
}

/** Show or hide. */
export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

/**
 * Keep one child of `parent` for each of `items`, in their order: made once by `create(item)`, which returns
 * `{element, update}`, then updated. What has the focus or is unfolded stays so. Returns the rows by key.
 */
export function keyed(parent, items, key, create) {
  const old = kept.get(parent) ?? new Map();
  const rows = new Map();
  for (const item of items) {
    const name = key(item);
    const row = old.get(name) ?? create(item);
    old.delete(name);
    rows.set(name, row);
    row.update(item);
  }
  for (const row of old.values()) row.element.remove();
  let place = parent.firstElementChild;
  for (const row of rows.values()) {
    if (row.element === place) place = place.nextElementSibling;
    else parent.insertBefore(row.element, place);
  }
  kept.set(parent, rows);
  return rows;
}

/** A button that copies what `text()` gives, and says that it has. */
export function copier(label, text) {
  const button = el("button", { type: "button", class: "copy", "aria-label": label, title: label, text: "copy" });
  button.addEventListener("click", async () => {
    const done = await copied(text());
    button.textContent = done ? "copied" : "failed";
    setTimeout(() => (button.textContent = "copy"), 1500);
  });
  return button;
}

// Pages over plain HTTP from another machine have no clipboard; there the old way still works.
async function copied(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return false;
    }
  }
  const field = el("textarea", { class: "unseen" });
  field.value = text;
  const before = document.activeElement;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  return done;
}
