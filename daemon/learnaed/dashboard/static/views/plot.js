// One chart over time: uPlot with our colours, a caption that tells the values, keys to move, and a text for those who
// cannot see it. Used by `charts`.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { colour, onChange } from "../appearance.js";
import { el, put, say } from "../dom.js";
import { clock, day } from "../format.js";

const together = uPlot.sync("learnae");

/**
 * `series` are `{label, colour, dash, width, fill, value(row, before)}`; `write(value)` puts one into words, `mark` into
 * those of the axis; `bounds` are the widest [least, most] of the axis (null: open) and how much it spans at least;
 * `view` is the range of time that all charts share.
 */
export function plot(figure, { title, series, write, mark = write, bounds, empty, view }) {
  const times = el("span", { class: "when" });
  const shown = series.map(({ label, colour: property }) => {
    const value = el("b");
    const swatch = el("i", { class: `swatch ${property.slice(2)}`, "aria-hidden": "true" });
    return { value, element: el("span", { class: "key" }, swatch, `${label} `, value) };
  });
  const frame = el("div", {
    class: "plot",
    tabindex: 0,
    role: "img",
    "aria-keyshortcuts": "+ - ArrowLeft ArrowRight 0",
  });
  const none = el("p", { class: "empty", text: empty, hidden: true });
  figure.append(
    el("figcaption", {}, el("span", { class: "title", text: title }), ...shown.map((each) => each.element), times),
    frame,
    none,
  );
  frame.addEventListener("keydown", (event) => view.key(event));

  let data = [[], ...series.map(() => [])];
  let chart = null;
  const make = () => {
    chart?.destroy();
    chart = new uPlot(options(), data, frame);
    chart.root.setAttribute("aria-hidden", "true");
  };
  const options = () => ({
    ...size(),
    legend: { show: false },
    padding: [10, 8, 0, 0],
    scales: {
      x: { time: true, range: () => view.range() },
      y: { range: (_, least, most) => span(least, most, bounds) },
    },
    axes: [
      axis({ values: (_, splits) => hours(splits), size: 30, space: 76 }),
      axis({ values: (_, splits) => splits.map(mark), size: 62 }),
    ],
    series: [{}, ...series.map(line)],
    cursor: {
      sync: { key: together.key, setSeries: false },
      drag: { x: true, y: false, setScale: false, dist: 6 },
      bind: {
        dblclick: () => () => {
          view.reset();
          return null;
        },
      },
      points: { size: 7 },
      y: false,
    },
    hooks: { setCursor: [caption], setSelect: [(self) => zoom(self)] },
  });
  // As the style sheet has it.
  const size = () => ({ width: Math.max(200, frame.clientWidth), height: Math.max(120, frame.clientHeight) });
  const zoom = (self) => {
    const { left, width } = self.select;
    if (width <= 0) return;
    const [from, to] = [self.posToVal(left, "x"), self.posToVal(left + width, "x")];
    self.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    view.fix(from, to);
  };
  const caption = () => {
    const place = chart?.cursor.idx ?? null;
    for (const [number, { value }] of shown.entries()) {
      const column = data[number + 1];
      const known = place === null ? column.findLast((each) => each !== null) : column[place];
      say(value, known === undefined || known === null ? "–" : write(known));
    }
    say(times, place === null || data[0].length === 0 ? "" : clock(data[0][place]));
  };
  const draw = (rows) => {
    data = [
      rows.map((row) => row.time),
      ...series.map(({ value }) => rows.map((row, place) => value(row, rows[place - 1]))),
    ];
    const many = Math.max(0, ...data.slice(1).map((column) => column.filter((each) => each !== null).length));
    put(figure, "data-points", many);
    none.hidden = many > 0;
    frame.hidden = many === 0;
    if (many === 0) return;
    if (chart === null) make();
    else chart.setData(data);
    caption();
    put(frame, "aria-label", describe());
  };
  const describe = () => {
    const parts = series.map(({ label }, number) => {
      const known = data[number + 1].filter((each) => each !== null);
      return known.length === 0 ? null : `${label} from ${write(known[0])} to ${write(known.at(-1))}`;
    });
    return `${title}: ${parts.filter(Boolean).join("; ")}; from ${clock(data[0][0])} to ${clock(data[0].at(-1))}`;
  };
  new ResizeObserver(() => {
    if (chart && frame.clientWidth > 0) chart.setSize(size());
  }).observe(frame);
  onChange(() => chart && make());
  return { draw, redraw: () => chart?.setData(data) };
}

function line({ label, colour: property, dash, width = 2, fill }) {
  return {
    label,
    dash,
    width,
    stroke: () => colour(property),
    fill: fill && (() => colour(fill)),
    spanGaps: true,
    points: { show: (self) => self.data[0].length < 3, size: 6 },
  };
}

function axis(more) {
  return {
    stroke: () => colour("--muted"),
    font: '11px system-ui, "Segoe UI", Roboto, sans-serif',
    grid: { stroke: () => colour("--line"), width: 1 },
    ticks: { show: false },
    ...more,
  };
}

// Room above and below the line, never beyond the bounds; something to draw on where there is no value yet.
function span(least, most, [floor, ceiling, height = 1e-9]) {
  if (least === null || most === null) return [floor ?? 0, ceiling ?? 1];
  const room = Math.max(0.08 * (most - least), 0.01 * Math.abs(most), height / 2);
  const low = least - room;
  const high = most + room;
  return [floor === null ? low : Math.max(floor, low), ceiling === null ? high : Math.min(ceiling, high)];
}

// 14:03, with seconds where the marks are closer than a minute, the day where one begins.
function hours(splits) {
  const fine = splits.length > 1 && splits[1] - splits[0] < 60;
  return splits.map((time) => {
    const at = new Date(1000 * time);
    if (!fine && at.getHours() === 0 && at.getMinutes() === 0) return day(at);
    return at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: fine ? "2-digit" : undefined });
  });
}
