// Puts the page together: the views get what the daemon says, the loop of `state` says when.

import { el } from "./dom.js";
import { follow, state } from "./state.js";
import * as banners from "./views/banners.js";
import * as charts from "./views/charts.js";
import * as events from "./views/events.js";
import * as header from "./views/header.js";
import * as limits from "./views/limits.js";
import * as now from "./views/now.js";
import * as peers from "./views/peers.js";
import * as snapshots from "./views/snapshots.js";
import * as swarm from "./views/swarm.js";
import * as updates from "./views/updates.js";
import { mount as mountTheme } from "./appearance.js";

const TICK = 2000; // ms: ages in the page grow by themselves

const at = (id) => document.getElementById(id);
const views = [
  header.mount(at),
  banners.mount(at),
  now.mount(at),
  charts.mount(at),
  swarm.mount(at),
  peers.mount(at),
  updates.mount(at),
  limits.mount(at),
  snapshots.mount(at),
  events.mount(at),
  about(at("about")),
];
let drawing = false;

function draw() {
  if (drawing || document.hidden) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const moment = Date.now() / 1000;
    for (const view of views) attempt(view, moment);
    document.body.dataset.drawn = String(Number(document.body.dataset.drawn ?? 0) + 1);
  });
}

// What one part cannot show is not to keep the others from it.
function attempt(view, moment) {
  try {
    view(state, moment);
  } catch (error) {
    console.error(error);
  }
}

function about(footer) {
  const text = el("span");
  footer.append(text);
  return ({ status }) => {
    if (status)
      text.textContent = `learnae ${status.version} · profile ${status.profile ?? "default"} · process ${status.pid}`;
  };
}

mountTheme(at("theme"), draw);
follow(draw);
setInterval(draw, TICK);
