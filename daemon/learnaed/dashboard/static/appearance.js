// Light or dark: the system's choice until the button is pressed; used by `main`, colours read by the charts.

import { put } from "./dom.js";

const SUN =
  "M12 7.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM12 2v2.5M12 19.5V22M2 12h2.5M19.5 12H22M4.9 4.9l1.8 1.8M17.3 17.3l1.8 1.8M4.9 19.1l1.8-1.8M17.3 6.7l1.8-1.8";
const MOON = "M20 14.2A8.2 8.2 0 0 1 9.8 4a8.2 8.2 0 1 0 10.2 10.2z";
const system = matchMedia("(prefers-color-scheme: dark)");
const probe = document.body.appendChild(document.createElement("i"));
const listeners = [];
probe.hidden = true;

/** Whether the page is dark now. */
export const dark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

/** Call `listener()` when the colours change. */
export const onChange = (listener) => listeners.push(listener);

/** The colour that a custom property of the style sheet has now, "--accent" for instance, as a canvas takes it. */
export function colour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

/** Make `button` switch between light and dark. */
export function mount(button, redraw) {
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  put(picture, "viewBox", "0 0 24 24");
  put(picture, "aria-hidden", "true");
  picture.append(path);
  button.append(picture);
  const label = () => {
    put(path, "d", dark() ? SUN : MOON);
    put(button, "aria-label", dark() ? "Switch to light" : "Switch to dark");
    put(button, "title", dark() ? "Switch to light" : "Switch to dark");
  };
  const changed = () => {
    label();
    for (const listener of listeners) listener();
    redraw();
  };
  button.addEventListener("click", () => {
    const theme = dark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("learnae.theme", theme);
    } catch {
      // Kept for this page alone.
    }
    changed();
  });
  system.addEventListener("change", changed);
  label();
}
