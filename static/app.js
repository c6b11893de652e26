// Small conveniences on top of pages that work without any of this.
(() => {
  "use strict";

  // The organization used last in this browser; forgotten when it is not in the list any more.
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

  // Messages: one at a time, in a polite live region.
  const toast = document.getElementById("toast");
  let fading;
  const fade = () => (fading = setTimeout(() => toast.replaceChildren(), 8000));
  const say = (kind, text) => {
    const line = document.createElement("p");
    line.className = "toast-line";
    line.dataset.kind = kind;
    line.textContent = text;
    clearTimeout(fading);
    // A moment later: what a region brings along when it moves into the dialog, or out of it, is not read out.
    fading = setTimeout(() => {
      toast.replaceChildren(line);
      fade();
    }, 100);
  };
  document.addEventListener("toast", (event) => say(event.detail.kind, event.detail.text));
  for (const name of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(name, () => say("error", "The portal does not answer. Trying again."));
  }
  document.addEventListener("htmx:responseError", (event) => {
    if (!event.detail.xhr.getResponseHeader("HX-Trigger")) say("error", "That did not work. Try again in a moment.");
  });
  if (toast.childElementCount) fade();

  // A second click on a form's button sends nothing while the first is on its way.
  const sent = new WeakSet();
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "post") return;
    if (sent.has(event.target)) event.preventDefault();
    sent.add(event.target);
    setTimeout(() => sent.delete(event.target), 15000);
  });

  // Exact times also in the reader's own zone.
  document.addEventListener("mouseover", (event) => {
    const time = event.target.closest?.("time[datetime]");
    if (!time || time.dataset.local) return;
    time.dataset.local = new Date(time.dateTime).toLocaleString();
    time.title += `\n${time.dataset.local} your time`;
  });

  // Copy buttons appear only where they can work.
  const prepare = (root) => {
    if (navigator.clipboard) root.querySelectorAll("button.copy[hidden]").forEach((button) => (button.hidden = false));
    root.querySelector("[aria-invalid=true]")?.focus();
    // Hours of the day also in the reader's own zone.
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
    say("info", "Copied.");
  });
  prepare(document);

  // What a reader unfolded stays open when its part of the page is renewed, and what had the focus keeps it: what has
  // an id by htmx, anything else as long as it looks the same.
  let unfolded = [];
  let focused;
  const looks = (element) => element.cloneNode(false).outerHTML;
  document.addEventListener("htmx:beforeSwap", (event) => {
    unfolded = [...event.detail.target.querySelectorAll("details[open][id]")].map((details) => details.id);
    const now = document.activeElement;
    focused = event.detail.target.contains(now) && !now.id && { tag: now.localName, looks: looks(now) };
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    unfolded.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
    unfolded = [];
    prepare(event.detail.elt);
    if (focused && document.activeElement === document.body) {
      [...event.detail.elt.querySelectorAll(focused.tag)].find((one) => looks(one) === focused.looks)?.focus();
    }
    if ((dialog.contains(event.detail.elt) || dialog === event.detail.target) && dialog.childElementCount) open();
  });

  // One native dialog; what it shows is also a page. Esc closes it by itself. Messages move in and out with it, for
  // nothing else can be read while it is open.
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
    // What opened it may have been renewed meanwhile.
    if (document.activeElement === document.body) document.getElementById(opener)?.focus();
  });
  document.addEventListener("dialog:close", close);
  // Only now do links open it: htmx's configuration leaves them alone without this script.
  document.documentElement.dataset.dialogs = "";
})();
