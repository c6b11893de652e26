// Progressive enhancements. Every page also works without this script.
(() => {
  "use strict";

  // Remember the last organization in this browser, and forget it when it is no longer in the list.
  const here = document.body.dataset.org;
  const LAST = "flotilla:organization";
  if (here) localStorage.setItem(LAST, here);
  const list = document.getElementById("orgs");
  if (list) {
    const linkTo = (slug) => [...list.querySelectorAll("a[data-slug]")].find((link) => link.dataset.slug === slug);
    let last = localStorage.getItem(LAST);
    if (last && !linkTo(last)) {
      localStorage.removeItem(LAST);
      last = null;
    }
    const target = "goOn" in list.dataset && linkTo(last ?? list.dataset.goOn);
    if (target) location.replace(target.href);
  }

  // Show one message at a time in the polite live region.
  const toast = document.getElementById("toast");
  let timer;
  const clearLater = () => (timer = setTimeout(() => toast.replaceChildren(), 8000));
  const showMessage = (kind, text) => {
    const line = document.createElement("p");
    line.className = "toast-line";
    line.dataset.kind = kind;
    line.textContent = text;
    clearTimeout(timer);
    // The delay is for screen readers: they do not announce text that the region contains when it moves into or out
    // of the dialog.
    timer = setTimeout(() => {
      toast.replaceChildren(line);
      clearLater();
    }, 100);
  };
  document.addEventListener("toast", (event) => showMessage(event.detail.kind, event.detail.text));
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, () => showMessage("error", "No connection to the portal. Trying again."));
  }
  document.addEventListener("htmx:responseError", (event) => {
    if (!event.detail.xhr.getResponseHeader("HX-Trigger")) showMessage("error", "Something went wrong. Try again.");
  });
  if (toast.childElementCount) clearLater();

  // Ignore a second submission of a form while the first one is being sent.
  const sent = new WeakSet();
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "post") return;
    if (sent.has(event.target)) event.preventDefault();
    sent.add(event.target);
    setTimeout(() => sent.delete(event.target), 15000);
  });

  // Add the local time to the hover text of times.
  document.addEventListener("mouseover", (event) => {
    const time = event.target.closest?.("time[datetime]");
    if (!time || time.dataset.local) return;
    time.dataset.local = new Date(time.dateTime).toLocaleString();
    time.title += `\n${time.dataset.local} your time`;
  });

  // Count relative times on, in the words of the server: `5 min ago`, and `5 min` for an elapsed time.
  const UNITS = { 86400: "day", 3600: "h", 60: "min" };
  const describe = (seconds, round = Math.floor) => {
    const size = Object.keys(UNITS).map(Number).sort((a, b) => b - a).find((unit) => seconds >= unit);
    const number = round(seconds / size);
    return `${number} ${UNITS[size]}${size === 86400 && number !== 1 ? "s" : ""}`;
  };
  const upcoming = (seconds) => (seconds < 60 ? "now" : `in ${describe(60 * Math.round(seconds / 60), Math.round)}`);
  const WORDS = {
    ago: (seconds) => (seconds < 0 ? upcoming(-seconds) : seconds < 60 ? "just now" : `${describe(seconds)} ago`),
    elapsed: (seconds) => (seconds < 60 ? "less than 1 min" : describe(seconds)),
    // Counts down to a moment in the future, where `seconds` is negative.
    countdown: (seconds) => {
      const left = Math.max(0, Math.ceil(-seconds));
      return `in ${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    },
  };
  // The clock of the browser may be wrong.
  const ahead = Date.now() - new Date(document.body.dataset.now);
  const countOn = () => {
    for (const time of document.querySelectorAll("time[data-counts]")) {
      const seconds = (Date.now() - ahead - new Date(time.dateTime)) / 1000;
      if (seconds < 0 && time.dataset.counts === "elapsed") continue;
      const text = WORDS[time.dataset.counts](seconds);
      if (time.textContent !== text) time.textContent = text;
    }
  };
  setInterval(countOn, 1000);

  const prepare = (root) => {
    countOn();
    // Copy buttons need the clipboard API, which browsers offer only in secure contexts.
    const buttons = navigator.clipboard ? root.querySelectorAll("button.copy[hidden]") : [];
    buttons.forEach((button) => (button.hidden = false));
    root.querySelector("[aria-invalid=true]")?.focus();
    // Add the local time to hours in UTC.
    root.querySelectorAll("select.hour option").forEach((option) => {
      const local = new Date(new Date().setUTCHours(option.value, 0));
      if (!option.dataset.utc) option.dataset.utc = option.textContent;
      option.textContent = `${option.dataset.utc} (${local.toTimeString().slice(0, 5)} your time)`;
    });
  };
  document.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    showMessage("info", "Copied.");
  });
  prepare(document);

  // A box above a list selects all rows of the page.
  const offerAll = () => {
    for (const all of document.querySelectorAll("[data-check-all][hidden]")) all.hidden = false;
  };
  document.addEventListener("htmx:load", offerAll);
  offerAll();
  document.addEventListener("change", (event) => {
    const all = event.target.closest("[data-check-all]");
    if (!all) return;
    for (const box of all.form.querySelectorAll(`input[name=${all.dataset.checkAll}]`)) box.checked = all.checked;
  });

  // Close the menu of organizations on Esc and on a click outside of it.
  const menu = document.querySelector("details.switcher");
  document.addEventListener("click", (event) => {
    if (menu?.open && !menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu?.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  // Show in the title and the icon of the tab whether something on the page runs or has failed.
  const GLYPHS = { failed: "✕ ", running: "◐ " };
  const icon = document.querySelector("link[rel=icon]");
  const { title } = document;
  const plain = icon.href;
  const showActivity = () => {
    const activity = ["failed", "running"].find((name) => document.querySelector(`main [data-activity=${name}]`));
    document.title = (GLYPHS[activity] ?? "") + title;
    icon.href = icon.dataset[activity] ?? plain;
  };
  document.addEventListener("htmx:afterSettle", showActivity);
  showActivity();

  // Show only the parameters that the chosen strategy of a rollout uses.
  const showUsedParameters = () => {
    const chosen = document.querySelector("input[name=strategy]:checked")?.value;
    for (const parameter of document.querySelectorAll("[data-strategies]")) {
      parameter.hidden = !parameter.dataset.strategies.split(" ").includes(chosen);
    }
  };
  document.addEventListener("change", showUsedParameters);
  showUsedParameters();

  // A refresh never replaces a form that was filled in. The part is refreshed when the form is closed.
  const touched = new Set();
  const waiting = new Map();
  const holdsTouched = (part) => [...touched].some((form) => form.isConnected && part.contains(form));
  document.addEventListener("input", (event) => {
    if (event.target.form?.method === "post") touched.add(event.target.form);
  });
  const keepTouched = (event) => {
    const { target, requestConfig } = event.detail;
    if (requestConfig && requestConfig.verb !== "get") return;
    // A search is no refresh: the user asks for other rows.
    if (requestConfig?.elt.matches("[role=search]")) return;
    if (!holdsTouched(target)) return;
    event.detail.shouldSwap = false;
    if (requestConfig && target.id) waiting.set(target.id, requestConfig.path);
  };
  document.addEventListener("htmx:beforeSwap", keepTouched);
  document.addEventListener("htmx:oobBeforeSwap", keepTouched);
  const untouch = (element) => {
    for (const form of touched) if (!form.isConnected || element.contains(form)) touched.delete(form);
    for (const [id, path] of waiting) {
      const part = document.getElementById(id);
      if (part && holdsTouched(part)) continue;
      waiting.delete(id);
      if (part) htmx.ajax("GET", path, { target: part, swap: "outerHTML" });
    }
  };
  // The event does not bubble.
  document.addEventListener(
    "toggle",
    (event) => {
      if (event.target.localName === "details" && !event.target.open) untouch(event.target);
    },
    true,
  );
  document.addEventListener("reset", (event) => untouch(event.target));

  // A list of checkboxes that was requested before the last change would undo that change, so it is requested again.
  let changes = 0;
  document.addEventListener("change", () => (changes += 1), true);
  document.addEventListener("htmx:beforeRequest", (event) => (event.detail.requestConfig.changes = changes));
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, requestConfig } = event.detail;
    if (!target.matches("[data-choices]") || requestConfig.changes === changes) return;
    event.detail.shouldSwap = false;
    htmx.ajax("POST", requestConfig.path, { source: target, target, swap: "outerHTML" });
  });

  // When a part of the page is replaced, keep its open <details> open and keep the focus. Elements without an id are
  // found again by their tag and attributes. htmx restores the focus itself, but not inside of closed <details>.
  let openDetails = [];
  let focused;
  const openingTag = (element) => element.cloneNode(false).outerHTML;
  const remember = (part) => {
    openDetails.push(...[...part.querySelectorAll("details[open][id]")].map((details) => details.id));
    const active = document.activeElement;
    if (part.contains(active)) focused = { id: active.id, name: active.localName, tag: openingTag(active) };
  };
  document.addEventListener("htmx:beforeSwap", (event) => {
    openDetails = [];
    focused = null;
    remember(event.detail.target);
  });
  // A response may also replace elements outside of its target, before `htmx:afterSwap`.
  document.addEventListener("htmx:oobBeforeSwap", (event) => remember(event.detail.target));
  document.addEventListener("htmx:afterSwap", (event) => {
    openDetails.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
    openDetails = [];
    prepare(event.detail.elt);
    if (focused && document.activeElement === document.body) {
      const candidates = [...event.detail.elt.querySelectorAll(focused.name)];
      const same = candidates.find((element) => openingTag(element) === focused.tag);
      (focused.id ? document.getElementById(focused.id) : same)?.focus();
    }
    if ((dialog.contains(event.detail.elt) || dialog === event.detail.target) && dialog.childElementCount) open();
  });

  // The native dialog. Its content is also available as a page, and the browser closes it on Esc. The region for
  // messages moves into the dialog while it is open, because everything outside of it is inert.
  const dialog = document.getElementById("dialog");
  let opener;
  const open = () => {
    if (!dialog.open) {
      opener = document.activeElement?.id;
      dialog.showModal();
    }
    if (!dialog.contains(toast)) dialog.append(toast);
  };
  const close = () => {
    dialog.close();
    if (dialog.contains(toast)) document.body.append(toast);
  };
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) {
      event.preventDefault();
      close();
    }
  });
  dialog.addEventListener("close", () => {
    close();
    dialog.replaceChildren();
    // The element that opened the dialog may have been replaced, so find it again by its id.
    if (document.activeElement === document.body) document.getElementById(opener)?.focus();
  });
  document.addEventListener("dialog:close", close);
  // A form in the dialog may load the page again. The focus then returns to what opened the dialog, or near it.
  const FOCUS = "flotilla:focus";
  dialog.addEventListener("submit", (event) => {
    const near = event.target.closest("[data-near]")?.dataset.near;
    sessionStorage.setItem(FOCUS, JSON.stringify([opener, near].filter(Boolean)));
  });
  const ids = JSON.parse(sessionStorage.getItem(FOCUS) ?? "[]");
  sessionStorage.removeItem(FOCUS);
  ids.map((id) => document.getElementById(id)).find(Boolean)?.focus();
  // Links open the dialog only from here on: without this attribute htmx ignores them, so they work as plain links.
  document.documentElement.dataset.dialogs = "";
})();
