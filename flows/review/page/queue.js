// A data set's queue: the passages that teach most, first; arrows go through it, Enter opens one.

import { ask, pause } from "./ask.js";
import { clock } from "./draw.js";

const { dataset } = document.body.dataset;
const rows = document.getElementById("cases"), state = document.getElementById("status");

const address = (one) => {
  const fields = one.kind === "patient" ? { at: one.from } : { at: one.from, passage: `${one.from}-${one.to}` };
  return `/record/${encodeURIComponent(dataset)}/${one.record.split("/").map(encodeURIComponent).join("/")}?${new URLSearchParams(fields)}`;
};

function row(one, most) {
  const line = document.createElement("tr"), link = document.createElement("a"), bar = document.createElement("meter");
  link.href = address(one); link.textContent = `${one.record} ${clock(one.from)}`;
  Object.assign(bar, { min: 0, max: most, value: one.weight, title: `${one.weight} bits` });
  const texts = [link, one.kind, one.truth || "unknown", one.answer, clock(one.to - one.from), bar];
  for (const text of texts) line.insertCell().append(text);
  return line;
}

async function show() {
  let queue;
  try { queue = await ask("/data/queue", { dataset }); } catch (error) { state.textContent = error.message; return; }
  const most = Math.max(1, ...queue.cases.map((one) => one.weight));
  const here = [...rows.querySelectorAll("a")].indexOf(document.activeElement);
  rows.replaceChildren(...queue.cases.map((one) => row(one, most)));
  rows.querySelectorAll("a")[here]?.focus();
  const more = queue.count > queue.cases.length ? `, the first ${queue.cases.length} of ${queue.count}` : "";
  state.textContent = queue.looked < queue.records
    ? `${queue.looked} of ${queue.records} records looked at ...`
    : `${queue.count} passages to look at${more}; ${queue.decisions} decisions so far.${queue.faults.length ? ` Not looked at: ${queue.faults.join("; ")}` : ""}`;
  document.body.dataset.ready = "yes";
  if (queue.looked < queue.records) { await pause(700); show(); }
}

document.addEventListener("keydown", (event) => {
  const links = [...rows.querySelectorAll("a")], step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  links[Math.min(Math.max(links.indexOf(document.activeElement) + step, 0), links.length - 1)]?.focus();
});
show();
