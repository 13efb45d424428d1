"use strict";
// Reads the same API as everybody else. Whatever comes from it is shown as text, never as markup.
const EVERY = 2000, SURE = 4000, TURN = 2 * Math.PI;
const byId = (id) => document.getElementById(id);
const seen = new Map(); // upstream/endpoint -> what it had done, and when
let chosen = null; // the endpoint under the pointer

function make(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "text", "title", "g"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

async function call(path, method = "GET") {
  const options = { method, cache: "no-store", headers: method === "POST" ? { "Content-Type": "application/json" } : {} };
  const response = await fetch(path, options);
  if (response.status === 401) location.assign("/");
  const body = await response.json();
  if (!response.ok) throw new Error(body.error || `HTTP ${response.status}`);
  return body;
}

const percent = (share, digits = 1) => `${(share * 100).toFixed(digits)} %`;
const rate = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1));

const moment = (time) => time.replace("T", " ").replace(/\.\d+Z$/, "Z");

function duration(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const from = parts.findIndex(([size]) => seconds >= size);
  if (from < 0) return "0 s";
  return parts.slice(from, from + 2).map(([size, unit], at) => {
    const whole = Math.floor(seconds / size) % (at === 0 ? Infinity : parts[from][0] / size);
    return `${whole} ${unit}`;
  }).join(" ");
}

// The same endpoint has the same colour on every page and every proxy.
function colour(id) {
  let hash = 2166136261;
  for (const char of id) hash = Math.imul(hash ^ char.codePointAt(0), 16777619);
  return `oklch(var(--l) var(--c) ${((hash >>> 0) * 137.508) % 360})`;
}

function dot(id) {
  const node = make("span", { class: "dot", "aria-hidden": "true" });
  node.style.background = colour(id);
  return node;
}

function speed(key, endpoint, now) {
  const before = seen.get(key), done = { ok: endpoint.ok, failed: endpoint.failed, at: now };
  seen.set(key, done);
  if (!before || done.ok < before.ok) return { ok: 0, failed: 0 };
  const seconds = Math.max(0.001, (now - before.at) / 1000);
  return { ok: (done.ok - before.ok) / seconds, failed: Math.max(0, done.failed - before.failed) / seconds };
}

function arc(from, to, outer, inner) {
  const at = (turn, radius) => `${(Math.sin(turn * TURN) * radius).toFixed(2)} ${(-Math.cos(turn * TURN) * radius).toFixed(2)}`;
  const end = Math.min(to, from + 0.99999), large = end - from > 0.5 ? 1 : 0;
  return `M${at(from, outer)}A${outer} ${outer} 0 ${large} 1 ${at(end, outer)}L${at(end, inner)}A${inner} ${inner} 0 ${large} 0 ${at(from, inner)}Z`;
}

// Each endpoint's share of the keys; the further out an arc reaches, the more is in flight there.
function ring(upstream, most) {
  const picture = make("svg", { class: "ring", viewBox: "-110 -110 220 220", role: "img", "aria-label": `Shares of the keys of ${upstream.name}` });
  let from = 0;
  for (const endpoint of upstream.endpoints) {
    const to = from + endpoint.key_share;
    if (to > from) {
      const key = `${upstream.name}/${endpoint.id}`, outer = 84 + 22 * (most ? endpoint.in_flight / most : 0);
      const path = make("path", {
        d: arc(from, to, outer, 58), "data-key": key, class: endpoint.state === "up" ? "" : "out",
        onmouseenter: () => choose(key), onmouseleave: () => choose(null),
      }, make("title", {}, `${endpoint.id}: ${percent(endpoint.key_share)} of the keys, ${endpoint.state}, ${endpoint.in_flight} in flight`));
      path.style.fill = colour(endpoint.id);
      picture.append(path);
    }
    from = to;
  }
  const live = upstream.endpoints.filter((endpoint) => endpoint.state === "up").length;
  picture.append(
    make("text", { y: -6, class: "big" }, `${live} of ${upstream.endpoints.length} up`),
    make("text", { y: 12, class: "soft" }, `${upstream.points} points`),
    make("text", { y: 28, class: "soft mono" }, upstream.fingerprint));
  return picture;
}

function choose(key) {
  chosen = key;
  for (const path of document.querySelectorAll(".ring path")) path.classList.toggle("dim", key !== null && path.dataset.key !== key);
  for (const row of document.querySelectorAll("tr[data-key]")) row.classList.toggle("hot", row.dataset.key === key);
}

// A second press within a few seconds means it.
function sure(button, act) {
  let asked = null;
  button.addEventListener("click", async () => {
    const label = button.dataset.label || button.textContent;
    button.dataset.label = label;
    const calm = () => { button.textContent = label; button.classList.remove("sure"); asked = null; };
    if (asked === null) {
      button.textContent = "Sure?";
      button.classList.add("sure");
      asked = setTimeout(calm, SURE);
      return;
    }
    clearTimeout(asked);
    calm();
    await act();
  });
}

function row(upstream, endpoint, now, most) {
  const key = `${upstream.name}/${endpoint.id}`, served = speed(key, endpoint, now);
  const cell = (name, kind, ...children) => make("td", { "data-name": name, class: kind }, ...children);
  const load = make("div", { class: "bar" }, make("i"));
  load.firstChild.style.width = `${most ? (100 * endpoint.in_flight) / most : 0}%`;
  const state = make("span", { class: `state ${endpoint.state}` }, endpoint.state);
  const problem = endpoint.last_check && endpoint.last_check.problem;
  const onItsWay = typeof endpoint.ramp === "number" ? `has ${percent(endpoint.ramp, 0)} of its keys on the move` : null;
  const draining = endpoint.state === "draining";
  const button = make("button", { type: "button", "aria-label": `${draining ? "Take back" : "Drain"} ${endpoint.id}` }, draining ? "Take back" : "Drain");
  const path = `/api/v1/upstreams/${encodeURIComponent(upstream.name)}/endpoints/${encodeURIComponent(endpoint.id)}/${draining ? "undrain" : "drain"}`;
  sure(button, async () => { await attempt(() => call(path, "POST")); await refresh(); });
  const address = endpoint.addresses.length === 1 && endpoint.addresses[0] === endpoint.address ? endpoint.address
    : `${endpoint.address} (${endpoint.addresses.join(", ") || "never resolved"})`;
  return make("tr", { "data-key": key, onmouseenter: () => choose(key), onmouseleave: () => choose(null) },
    cell("Endpoint", null, make("span", {}, dot(endpoint.id), make("b", {}, endpoint.id), make("br"), make("span", { class: "soft mono" }, address))),
    cell("State", null, make("span", {}, state, onItsWay ? make("div", { class: "warn" }, onItsWay) : null,
      problem ? make("div", { class: "failed" }, problem) : null)),
    cell("Weight", "n", String(endpoint.weight)),
    cell("Keys", "n", percent(endpoint.key_share)),
    cell("In flight", "n", make("span", {}, String(endpoint.in_flight) + (endpoint.pending ? ` +${endpoint.pending} waiting` : ""), load)),
    cell("Requests/s", "n", rate(served.ok)),
    cell("Failures/s", served.failed > 0 ? "n failed" : "n", rate(served.failed)),
    cell("", "n", button));
}

// By hash: the key itself may be somebody's secret.
function hotKeys(heat) {
  const cell = (name, kind, ...children) => make("td", { "data-name": name, class: kind }, ...children);
  const line = (key) => make("tr", {},
    cell("Key", null, make("span", { class: "mono" }, key.hash)),
    cell("Requests/s", "n", rate(key.requests_per_second)),
    cell("Share", "n", percent(key.share)),
    cell("Shared by", null, make("span", {}, ...key.replicas.flatMap((id) => [dot(id), `${id} `]))));
  const names = [["Hot key (hash)", ""], ["Requests/s", "n"], ["Share", "n"], ["Shared by", ""]];
  return make("table", { class: "cards", "aria-label": `Hot keys of ${heat.upstream}` },
    make("thead", {}, make("tr", {}, ...names.map(([name, kind]) => make("th", { class: kind, scope: "col" }, name)))),
    make("tbody", {}, ...heat.keys.map(line)));
}

function group(upstream, now, heat) {
  const most = Math.max(0, ...upstream.endpoints.map((endpoint) => endpoint.in_flight));
  const names = ["Endpoint", "State", "Weight", "Keys", "In flight", "Requests/s", "Failures/s", ""];
  const kinds = ["", "", "n", "n", "n", "n", "n", "n"];
  return make("section", { "aria-label": `upstream ${upstream.name}` },
    make("div", { class: "head" }, make("h2", {}, upstream.name), make("span", {}, `${upstream.endpoints.length} endpoints`),
      upstream.panic ? make("span", { class: "state failed" }, "panic: too few are up, verdicts are ignored") : null),
    make("div", { class: "group" }, ring(upstream, most),
      make("table", { class: "cards" },
        make("thead", {}, make("tr", {}, ...names.map((name, at) => make("th", { class: kinds[at], scope: "col" }, name)))),
        make("tbody", {}, ...upstream.endpoints.map((endpoint) => row(upstream, endpoint, now, most))))),
    heat && heat.keys.length ? hotKeys(heat) : null);
}

// What has the focus, or waits to be pressed again, is not taken away from under the hand.
function isBusy(node) {
  return node.contains(document.activeElement) || node.querySelector(".sure") !== null;
}

// What guards hold, each with a button that lets it through.
function hold(held) {
  const box = byId("held"), list = byId("held-list");
  box.hidden = held.length === 0;
  if (isBusy(list)) return;
  const one = (change) => {
    const whose = change.upstream ? `upstream ${change.upstream}` : "configuration";
    const query = change.upstream ? `upstream=${encodeURIComponent(change.upstream)}` : "configuration=true";
    const button = make("button", { type: "button", "aria-label": `Approve: ${whose}` }, "Approve");
    sure(button, async () => {
      const done = await attempt(() => call(`/api/v1/approve?${query}`, "POST"));
      button.blur();
      await refresh();
      if (done) byId("reloaded").textContent = done.approved.join("; ");
    });
    const moved = typeof change.moved === "number" ? `, ${percent(change.moved, 2)} of the keys would move` : "";
    return make("div", { class: "change" }, make("p", {}, make("b", {}, whose), ` ${change.why}${moved}`, make("br"),
      make("span", { class: "soft" }, `since ${moment(change.since)}${change.what.length ? `: ${change.what.join("; ")}` : ""}`)), button);
  };
  list.replaceChildren(...held.map(one));
}

// The other proxies, and who of them gives keys to other endpoints.
function meet(fleet) {
  byId("fleet").hidden = !fleet;
  if (!fleet) return;
  const store = `store ${fleet.store.name}${fleet.store.up ? "" : " is lost"}`;
  const parts = [`${fleet.name} and ${fleet.peers.length} peers`, `${fleet.agreeing} agree`, store];
  if (fleet.disagreement_seconds > 0) parts.push(`disagreement for ${duration(fleet.disagreement_seconds)}`);
  if (fleet.problem) parts.push(fleet.problem);
  byId("fleet-summary").textContent = parts.join(" · ");
  byId("fleet-summary").className = fleet.store.up && fleet.agreeing === fleet.peers.length ? "" : "warn";
  const line = (peer) => {
    const cell = (name, kind, ...children) => make("td", { "data-name": name, class: kind }, ...children);
    const state = make("span", { class: `state ${peer.agrees ? "up" : "failed"}` }, peer.agrees ? "agrees" : "disagrees");
    const clock = typeof peer.clock_ahead_ms === "number" ? `${peer.clock_ahead_ms > 0 ? "+" : ""}${peer.clock_ahead_ms} ± ${peer.clock_error_ms} ms` : "not known yet";
    return make("tr", {},
      cell("Peer", null, make("span", {}, make("b", {}, peer.name), make("br"), make("span", { class: "soft mono" }, peer.instance))),
      cell("Who owns what", null, make("span", {}, state, ...peer.differs.map((what) => make("div", { class: peer.agrees ? "soft" : "failed" }, what)))),
      cell("Version", null, peer.version), cell("Generation", "n", String(peer.generation)), cell("Clock", "n", clock));
  };
  byId("peers").replaceChildren(...fleet.peers.map(line));
}

// What goes on without its store, and how.
function degraded(status) {
  // One that answers, and gives no locks, may have forgotten some.
  const gone = (store) => `store ${store.name} ${store.up ? "may have forgotten locks and gives none for a time" : "is lost"}`;
  const modes = { refuse: "requests are refused", local: "requests take turns within this proxy, without tokens", bypass: "requests pass without turns" };
  const turns = status.serialize.filter((route) => route.degraded)
    .map((route) => `Route ${route.route}: ${gone(route.store)}, ${modes[route.degraded]}.`);
  const alone = { refuse: "requests are refused", local: "each proxy asks for its own" };
  const shared = status.coalesce.filter((route) => route.degraded)
    .map((route) => `Route ${route.route}: ${gone(route.store)}, ${alone[route.degraded]}.`);
  const lost = status.upstreams.filter((upstream) => upstream.discovery?.store && !upstream.discovery.store.up)
    .map((upstream) => `Upstream ${upstream.name}: store ${upstream.discovery.store.name} is lost, ${upstream.discovery.refuses ? "requests are refused" : "the last members serve"}.`);
  const box = byId("degraded");
  const silent = { "check-locally": "this proxy checks for itself", freeze: "the last verdicts are kept" };
  const unchecked = status.upstreams.filter((upstream) => upstream.elect?.degraded)
    .map((upstream) => `Upstream ${upstream.name}: ${upstream.elect.store.up ? "no elected proxy is heard" : `store ${upstream.elect.store.name} is lost`}, ${silent[upstream.elect.degraded]}.`);
  const lines = [...turns, ...shared, ...lost, ...unchecked];
  box.hidden = lines.length === 0;
  box.replaceChildren(...lines.map((line) => make("p", {}, line)));
}

function show(status, heats) {
  const now = performance.now();
  const sums = status.listeners.reduce((sum, listener) => sum + listener.connections, 0);
  const parts = [status.ready ? "ready" : "not ready", `version ${status.version}`, `up ${duration(status.uptime_seconds)}`, `${status.workers} workers`,
    `${sums} connections`, `generation ${status.generation}`];
  if (!status.reloads.last_succeeded) parts.push("the last configuration was refused: see the log");
  byId("summary").textContent = parts.join(" · ");
  byId("summary").className = status.ready && status.reloads.last_succeeded ? "" : "warn";
  hold(status.held);
  degraded(status);
  meet(status.fleet);
  const all = byId("upstreams");
  status.upstreams.forEach((upstream, at) => {
    const old = all.children[at], fresh = group(upstream, now, heats.get(upstream.name));
    if (!old) all.append(fresh);
    else if (!isBusy(old)) old.replaceWith(fresh);
  });
  while (all.children.length > status.upstreams.length) all.lastChild.remove();
  if (chosen) choose(chosen);
}

function tell(changes) {
  const line = (change) => {
    const moved = change.upstreams.map((upstream) => `${upstream.upstream} ${percent(upstream.moved, 2)}`);
    const cell = (name, kind, text) => make("td", { "data-name": name, class: kind }, text);
    return make("tr", {}, cell("When", "mono", moment(change.time)), cell("Why", null, change.cause),
      cell("What", null, change.what.join("; ") || "settings"), cell("Generation", "n", String(change.generation)), cell("Keys moved", "n", moved.join(", ") || "none"));
  };
  byId("history").replaceChildren(...changes.map(line));
}

async function attempt(act) {
  try {
    const result = await act();
    byId("trouble").hidden = true;
    return result;
  } catch (error) {
    byId("trouble").textContent = error instanceof TypeError ? "The proxy does not answer." : error.message;
    byId("trouble").hidden = false;
    return null;
  }
}

async function refresh() {
  await attempt(async () => {
    const status = await call("/api/v1/status");
    const hot = status.upstreams.filter((upstream) => upstream.hot_keys);
    const heats = await Promise.all(hot.map((upstream) => call(`/api/v1/upstreams/${encodeURIComponent(upstream.name)}/hotkeys`)));
    show(status, new Map(heats.map((heat) => [heat.upstream, heat])));
    tell(await call("/api/v1/history"));
  });
}

async function ask() {
  const query = new URLSearchParams({ url: byId("ask-url").value });
  if (byId("ask-header").value.trim()) query.append("header", byId("ask-header").value);
  location.hash = query.toString();
  const box = byId("answer");
  try {
    const told = await call(`/api/v1/explain?${query}`);
    const line = (name, text) => [make("dt", {}, name), make("dd", { class: "mono" }, text)];
    const facts = [...line("Route", told.route)];
    if (told.answer) facts.push(...line("Answer", told.answer));
    if (told.key !== null && told.key !== undefined) facts.push(...line("Key", told.key), ...line("From", told.source || "-"), ...line("Hash", told.hash || "-"));
    if (told.owner) facts.push(...line("Owner", told.owner));
    const candidate = (one) => make("li", {}, dot(one.id), make("b", {}, one.id), ` ${one.address}`,
      one.role ? make("span", { class: "soft" }, ` ${one.role}`) : null, one.skipped ? make("span", { class: "warn" }, ` skipped: ${one.skipped}`) : null);
    box.replaceChildren(make("dl", {}, ...facts), make("ol", {}, ...(told.candidates || []).map(candidate)));
  } catch (error) {
    box.replaceChildren(make("p", { class: "failed" }, error.message));
  }
}

byId("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(input|textarea)$/i.test(event.target.tagName)) {
    event.preventDefault();
    byId("ask-url").focus();
  }
});
sure(byId("reload"), async () => {
  byId("reloaded").textContent = "";
  const done = await attempt(() => call("/api/v1/reload", "POST"));
  if (done) byId("reloaded").textContent = done.result;
  await refresh();
});
byId("logout").addEventListener("click", async () => {
  await fetch("/logout", { method: "POST" });
  location.assign("/");
});
byId("leave").hidden = byId("leave").dataset.login !== "yes";

const asked = new URLSearchParams(location.hash.slice(1));
if (asked.get("url")) {
  byId("ask-url").value = asked.get("url");
  byId("ask-header").value = asked.get("header") || "";
  ask();
}
refresh();
setInterval(() => { if (!document.hidden) refresh(); }, EVERY);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
