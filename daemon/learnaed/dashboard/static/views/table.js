// A table that can be sorted, and whose rows become cards on a phone; used by peers, updates and snapshots.

import { el, keyed, put, say, show } from "../dom.js";

const MOST = 250; // rows: with thousands a browser gets slow

/**
 * Columns are `{name, label, fill(cell, item, now), sort(item), side}`; `fill` writes into its cell, `sort` gives what to
 * sort by (none: not sorted by it), `side` is "right" for numbers. The roles keep it a table for screen readers where the
 * style sheet makes cards of the rows.
 */
export function table({ caption, columns, key, sorted = null, empty }) {
  const order = { name: sorted?.name ?? null, down: sorted?.down ?? false };
  const head = el("tr", { role: "row" });
  const body = el("tbody", { role: "rowgroup" });
  const none = el("div", { class: "empty" }, ...[empty].flat());
  const choice = el("select", { "aria-label": `Sort ${caption.toLowerCase()} by` });
  const grid = el(
    "table",
    { role: "table" },
    el("caption", { class: "unseen", text: caption }),
    el("thead", { role: "rowgroup" }, head),
    body,
  );
  const sortable = columns.filter((column) => column.sort);
  const phone = el("label", { class: "sorter" }, "Sort by ", choice);
  const more = el("p", { class: "hint" });
  const element = el("div", { class: "table" }, ...(sorted ? [phone] : []), grid, more, none);
  let last = [[], 0];
  show(grid, false); // until something is known
  show(none, false);

  for (const column of columns) {
    const cell = el("th", { role: "columnheader", scope: "col", class: column.side ?? "" });
    if (sorted && column.sort) {
      const button = el("button", { type: "button", text: column.label });
      button.addEventListener("click", () =>
        turn(column.name, order.name === column.name ? !order.down : column.side === "right"),
      );
      cell.append(button);
      choice.append(el("option", { value: column.name, text: column.label.toLowerCase() }));
    } else {
      cell.textContent = column.label;
    }
    column.cell = cell;
    head.append(cell);
  }
  choice.addEventListener("change", () =>
    turn(choice.value, columns.find((column) => column.name === choice.value).side === "right"),
  );

  function turn(name, down) {
    Object.assign(order, { name, down });
    draw(...last);
  }

  function draw(items, now) {
    last = [items, now];
    const by = sortable.find((column) => column.name === order.name);
    const rows = by ? [...items].sort((a, b) => compare(by.sort(a), by.sort(b)) * (order.down ? -1 : 1)) : items;
    for (const column of sortable) {
      put(column.cell, "aria-sort", sorted && column === by ? (order.down ? "descending" : "ascending") : null);
    }
    if (by) choice.value = by.name;
    keyed(body, rows.slice(0, MOST), key, () => row(columns, () => last[1]));
    say(more, items.length > MOST ? `and ${items.length - MOST} more` : "");
    show(grid, items.length > 0);
    show(phone, items.length > 1);
    show(none, items.length === 0);
  }
  return { element, draw };
}

function row(columns, now) {
  const cells = columns.map(({ label, side }) => el("td", { role: "cell", "data-label": label, class: side ?? "" }));
  const element = el("tr", { role: "row" }, ...cells);
  const update = (item) => {
    for (const [place, column] of columns.entries()) column.fill(cells[place], item, now());
  };
  return { element, update };
}

// What is not known comes first when rising, as if it were less than anything.
function compare(a, b) {
  const unknown = (value) => value === null || value === undefined;
  if (unknown(a) || unknown(b)) return unknown(b) - unknown(a);
  return typeof a === "string" ? a.localeCompare(b) : a - b;
}
