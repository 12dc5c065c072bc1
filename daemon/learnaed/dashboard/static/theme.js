// Applies the chosen theme before anything is drawn; not a module, so that the page never flashes in the other one.
"use strict";
{
  let theme = null;
  try {
    theme = localStorage.getItem("learnae.theme");
  } catch {
    // No storage in this browser's mode: the system's preference holds.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
