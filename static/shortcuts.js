// Keyboard shortcuts of operators. The page "Keyboard shortcuts" lists them, and can switch single keys off.
(() => {
  "use strict";

  const OFF = "flotilla:shortcuts-off";
  const PAGES = { o: "overview", r: "rollouts", l: "releases", f: "fleet", c: "orgs", u: "users", e: "events", a: "alerts" };
  const search = document.getElementById("open-search");
  if (!search) return;

  const isTyping = (target) => target.closest?.("input, textarea, select, [contenteditable]");
  let goes = false;
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      search.click();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || isTyping(event.target)) return;
    if (localStorage.getItem(OFF) || document.getElementById("dialog").open) return;
    if (goes) {
      goes = false;
      const link = document.querySelector(`.topbar a[data-page="${PAGES[event.key]}"]`);
      if (link) link.click();
      return;
    }
    if (event.key === "g") {
      goes = true;
      setTimeout(() => (goes = false), 1500);
    } else if (event.key === "/") {
      event.preventDefault();
      search.click();
    } else if (event.key === "?") {
      document.getElementById("open-shortcuts").click();
    }
  });

  document.addEventListener("htmx:load", () => {
    const box = document.getElementById("single-keys");
    if (!box) return;
    box.closest("label").hidden = false;
    box.checked = !localStorage.getItem(OFF);
  });
  document.addEventListener("change", (event) => {
    if (event.target.id !== "single-keys") return;
    if (event.target.checked) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "yes");
  });
})();
