/* What the pages do better with a script: follow the ledger, copy, keep the menu in view. They work without it. */

(() => {
  "use strict";
  const root = document.documentElement;
  const words = root.dataset;
  const REFRESH_MS = 1000;
  const IDLE_MS = 10000;
  root.classList.add("scripted");

  const current = document.querySelector(".menu a[aria-current]");
  const strip = document.querySelector(".menu");
  if (current && strip) strip.scrollLeft = current.offsetLeft - (strip.clientWidth - current.offsetWidth) / 2;

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    const text = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without a secure origin there is no clipboard to write to; a selection can still be copied from.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.classList.add("done");
    say(words.wordCopied);
    setTimeout(() => button.classList.remove("done"), 1600);
  });

  function say(text) {
    const speaker = document.getElementById("said");
    speaker.textContent = "";
    setTimeout(() => { speaker.textContent = text; }, 50);
  }

  /* --- live: a block's tick fetches this page again and puts its marked parts in place of the old ones --- */

  const regions = () => document.querySelectorAll("[data-live]");
  const button = document.getElementById("live");
  if (!regions().length || !button || !window.EventSource) return;

  let source = null;
  let timer = null;
  let last = 0;
  let isBusy = false;
  let isPaused = false;
  const shown = new WeakMap();
  button.hidden = false;
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.setAttribute("aria-pressed", String(!isPaused));
    button.textContent = isPaused ? words.wordPaused : words.wordLive;
    follow();
  });
  document.addEventListener("visibilitychange", follow);
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", follow);
  setInterval(() => { if (source && Date.now() - last > IDLE_MS) soon(); }, 1000);
  follow();

  function follow() {
    if (isPaused || document.hidden || !regions().length) return stop();
    if (source) return;
    source = new EventSource("/api/v1/events");
    source.addEventListener("block", soon);
    source.addEventListener("session-ended", () => location.reload());
    soon();
  }

  function stop() {
    if (source) source.close();
    source = null;
    clearTimeout(timer);
    timer = null;
  }

  function soon() {
    if (timer !== null) return;
    timer = setTimeout(refresh, Math.max(0, last + REFRESH_MS - Date.now()));
  }

  async function refresh() {
    timer = null;
    if (isBusy) return soon();
    isBusy = true;
    last = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (answer.redirected) return location.reload();
      if (!answer.ok || !source) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const region of regions()) replace(region, fresh.getElementById(region.id));
      if (!regions().length) { button.hidden = true; stop(); }
    } catch {
      // The gateway is away; the event stream comes back by itself and asks again.
    } finally {
      isBusy = false;
    }
  }

  function replace(region, fresh) {
    if (!fresh || fresh.innerHTML === shown.get(region)) return;
    if (region.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return;
    if (!fresh.hasAttribute("data-live")) region.removeAttribute("data-live");
    const known = new Set([...region.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
    const focused = region.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    shown.set(region, fresh.innerHTML);
    region.replaceChildren(...document.importNode(fresh, true).childNodes);
    for (const row of region.querySelectorAll("[data-key]")) row.classList.toggle("fresh", !known.has(row.dataset.key));
    if (focused) region.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  }
})();
