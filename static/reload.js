// Reloads a page of the gateway after a while. Without scripts, the page has a meta tag for it.
(() => {
  "use strict";
  const seconds = Number(document.documentElement.dataset.reloadAfter);
  if (seconds > 0) setTimeout(() => location.reload(), seconds * 1000);
})();
