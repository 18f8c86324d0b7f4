// What the pages do with JavaScript: times in the zone of the browser, countdowns, and the parts that refresh.
"use strict";

(() => {
  const REFRESH_MS = 30_000;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const MINUTE = { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit" };
  const here = new Intl.DateTimeFormat("en-GB", MINUTE);
  const otherYear = new Intl.DateTimeFormat("en-GB", { ...MINUTE, year: "numeric" });
  const UNITS = [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]];

  function words(seconds) {
    let rest = Math.round(seconds);
    const parts = [];
    for (const [unit, size] of UNITS) {
      const count = Math.floor(rest / size);
      rest -= count * size;
      if (count || parts.length) parts.push([count, unit]);
    }
    return parts.slice(0, 2).filter(([count]) => count).map(([count, unit]) => `${count} ${unit}`).join(" ");
  }

  function away(instant) {
    const seconds = (instant - Date.now()) / 1000;
    const size = words(Math.abs(seconds));
    return !size ? "now" : seconds > 0 ? `in ${size}` : `${size} ago`;
  }

  function showLocalTimes(root) {
    for (const time of root.querySelectorAll("time[datetime]:not([data-away]):not([title])")) {
      const instant = new Date(time.dateTime);
      const format = instant.getFullYear() === new Date().getFullYear() ? here : otherYear;
      const local = `${format.format(instant).replace(",", "")} ${zone}`;
      time.title = local;
      const other = time.nextElementSibling;
      if (zone !== "UTC" && !(other?.classList.contains("zone") && other.textContent.endsWith(zone))) {
        const added = document.createElement("small");
        added.className = "muted zone";
        added.textContent = local;
        (other?.classList.contains("zone") ? other : time).after(added);
      }
    }
  }

  function countDown() {
    for (const time of document.querySelectorAll("time[data-away]")) time.textContent = away(new Date(time.dateTime));
  }

  function refreshRegularly() {
    const controls = document.querySelector("[data-live-controls]");
    if (!controls || !document.querySelector("[data-live]")) return;
    const button = controls.querySelector("[data-live-pause]");
    let isPaused = false;
    controls.hidden = false;
    button.addEventListener("click", () => {
      isPaused = !isPaused;
      button.setAttribute("aria-pressed", String(isPaused));
      controls.querySelector("[data-live-state]").textContent = isPaused ? "Paused" : "Refreshes every 30 s";
    });
    setInterval(() => {
      const live = document.querySelector("[data-live]");
      const isInUse = live.contains(document.activeElement) || live.querySelector("details[open]");
      if (!isPaused && !document.hidden && !isInUse) htmx.trigger(live, "refresh");
    }, REFRESH_MS);
  }

  // A field is invalid while a sentence says so: those are swapped in, the fields stay as they are typed.
  function markFaults() {
    for (const fault of document.querySelectorAll("[data-error-of]")) {
      const input = document.getElementById(fault.dataset.errorOf);
      if (fault.textContent) input?.setAttribute("aria-invalid", "true");
      else input?.removeAttribute("aria-invalid");
    }
  }

  // Schedules are read in UTC unless told otherwise, which is seldom what somebody elsewhere means.
  function offerOwnZone() {
    const offer = document.querySelector("[data-own-zone]");
    const field = document.getElementById("timezone");
    if (!offer || field.value === zone) return;
    const button = offer.firstElementChild;
    button.textContent = `Use ${zone}`;
    button.addEventListener("click", () => {
      field.value = zone;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      field.focus();
      offer.hidden = true;
    });
    offer.hidden = false;
  }

  // Links to a part of a page that is folded open it.
  function unfold() {
    const part = location.hash && document.getElementById(location.hash.slice(1));
    if (part instanceof HTMLDetailsElement) part.open = true;
  }

  // The link that a local run prints signs in by itself: what follows the # reaches no server and no log.
  function signIn() {
    const token = new URLSearchParams(location.hash.slice(1)).get("token");
    const field = document.getElementById("token");
    if (!token || !field) return;
    history.replaceState(null, "", location.pathname + location.search);
    field.value = token;
    field.form.requestSubmit();
  }

  signIn();
  offerOwnZone();
  unfold();
  addEventListener("hashchange", unfold);
  showLocalTimes(document);
  setInterval(countDown, 1000);
  refreshRegularly();
  document.addEventListener("htmx:after:swap", () => {
    showLocalTimes(document);
    markFaults();
  });
})();
