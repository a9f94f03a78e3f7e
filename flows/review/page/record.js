// A record: the day above, the ECG below it, and one key for each thing that a reviewer does.

import { ask, cells, keep, latest, newId, numbers, pause, person, send, waiting } from "./ask.js";
import { GUTTER, PAPER, clock, dayHeight, drawDay, drawEcg, letter, readColours, scatterPicture } from "./draw.js";

const { dataset, record: name, role } = document.body.dataset;
const element = (id) => document.getElementById(id);
const canvases = { day: element("day"), ecg: element("ecg") };
const own = { dataset, record: name };
const query = new URLSearchParams(location.search);
const state = {
  record: null, day: { span: [0, 1], data: null }, ecg: { span: [0, 1], data: {}, beats: [] },
  leads: [], stamp: 0, passage: null, origin: null, measure: null, mode: "move", cases: [], rhythms: [],
};

const told = (words, fault = false) => {
  element("status").textContent = words;
  element("status").classList.toggle("fault", fault);
};
const duration = () => state.record.duration;
const strip = () => canvases.ecg.clientWidth - GUTTER;
const paperSpan = () => Math.min(strip() / PAPER, duration());
const middle = () => (state.ecg.span[0] + state.ecg.span[1]) / 2;

// ---- what is asked, and drawn

let frame = 0;
function draw() {
  if (frame || !state.record) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    drawDay(canvases.day, state); drawEcg(canvases.ecg, state); words();
    for (const view of ["day", "ecg"]) {
      const span = state[view].span.join(" "), parts = view === "day" ? [state.day.data] : state.leads.map((lead) => state.ecg.data[lead]);
      canvases[view].dataset.span = span;
      if (parts.every((part) => part && part.key === span)) canvases[view].dataset.drawn = span;
    }
  });
}

const askDay = latest(async () => {
  const [from, to] = state.day.span, columns = Math.max(60, Math.round((canvases.day.clientWidth - GUTTER) / 2));
  try {
    const day = await ask("/data/day", { ...own, from, to, columns, rows: canvases.day.clientWidth < 600 ? 40 : 55 });
    for (const key of ["rate", "truth", "answer", "untold", "probability", "bad"]) day[key] = numbers(day[key]);
    Object.assign(day, { from, to, key: `${from} ${to}`, scatter: cells(day.scatter) });
    day.picture = scatterPicture(day);
    state.day.data = day;
  } catch (error) { told(error.message, true); }
  draw();
});

const askLead = {};
function leadAsker(lead) {
  return (askLead[lead] ||= latest(async () => {
    const [from, to] = state.ecg.span, reach = (to - from) / 4;
    const span = { from: Math.max(0, from - reach), to: Math.min(duration(), to + reach) };
    const columns = Math.min(4000, Math.round(strip() * (span.to - span.from) / (to - from) * (devicePixelRatio || 1)));
    try {
      const data = await ask("/data/ecg", { ...own, ...span, columns, lead });
      data.values = data.values ? numbers(data.values) : null;
      const before = state.ecg.data[lead];
      if (data.waiting && before?.values) state.ecg.data[lead] = { ...before, waiting: true };
      else state.ecg.data[lead] = { ...data, key: data.waiting ? "" : `${from} ${to}` };
      if (data.note) told(data.note, true);
      if (data.waiting) pause(300).then(leadAsker(lead));
    } catch (error) { state.ecg.data[lead] = { fault: error.message, values: null, key: `${from} ${to}` }; }
    draw();
  }));
}

const askBeats = latest(async () => {
  const [from, to] = state.ecg.span;
  const answer = to - from > 180 ? { beats: [] } : await ask("/data/beats", { ...own, from, to }).catch(() => ({ beats: [] }));
  state.ecg.beats = answer.beats;
  draw();
});

function askEcg() {
  state.leads.forEach((lead) => leadAsker(lead)());
  askBeats();
}

// ---- where the view is

const held = (span, least) => {
  const width = Math.min(Math.max(span[1] - span[0], least), duration());
  const from = Math.min(Math.max(span[0], 0), duration() - width);
  return [from, from + width];
};

function setEcg(span) {
  state.ecg.span = held(span, 1);
  const [a, b] = state.ecg.span, [d0, d1] = state.day.span, width = d1 - d0;
  if (b - a <= width && (a < d0 || b > d1)) setDay([middle() - width / 2, middle() + width / 2]);
  remember(); askEcg(); draw();
}

function setDay(span) {
  state.day.span = held(span, Math.min(30, duration()));
  askDay(); draw();
}

const centre = (at, width = state.ecg.span[1] - state.ecg.span[0]) => setEcg([at - width / 2, at + width / 2]);
const zoomed = (span, at, factor) => span.map((edge) => at + (edge - at) * factor);

let remembering = 0;
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    const fields = new URLSearchParams({ at: middle().toFixed(3) });
    if (state.passage) fields.set("passage", state.passage.map((s) => s.toFixed(3)).join("-"));
    history.replaceState(null, "", `${location.pathname}?${fields}`);
  }, 400);
}

function show(passage, keepWidth = false) {
  state.passage = passage; state.origin = passage;
  const [from, to] = passage, at = to - from > paperSpan() ? from : (from + to) / 2;
  if (keepWidth) centre(at); else centre(at, paperSpan());
  told(`Passage ${clock(from)} to ${clock(to)}.`);
}

// ---- going from passage to passage

const united = () => [...state.record.truth, ...state.record.told].sort((a, b) => a[0] - b[0]);
function step(list, direction, words) {
  const here = state.passage ? state.passage[0] : middle(), close = 1e-6;
  const next = direction > 0 ? list.find((one) => one[0] > here + close) : list.findLast((one) => one[0] < here - close);
  if (next) show([...next]); else told(`No ${direction > 0 ? "later" : "earlier"} ${words}.`);
}

function stepCase(direction) {
  const at = state.cases.findIndex((one) => isCase(one));
  const next = state.cases[at < 0 ? (direction > 0 ? 0 : -1) : at + direction];
  if (!next) { told(at < 0 ? "The queue is empty." : "The queue ends here."); return; }
  openCase(next);
}
const isCase = (one) => one.record === name && state.origin && Math.abs(one.from - state.origin[0]) < 0.01 && Math.abs(one.to - state.origin[1]) < 0.01;
export const caseAddress = (one) => {
  const whole = one.kind === "patient";
  const fields = whole ? { at: one.from } : { at: one.from, passage: `${one.from}-${one.to}` };
  return `/record/${encodeURIComponent(dataset)}/${one.record.split("/").map(encodeURIComponent).join("/")}?${new URLSearchParams(fields)}`;
};
function openCase(one) {
  if (one.record !== name) { location.assign(caseAddress(one)); return; }
  if (one.kind === "patient") { state.passage = state.origin = null; setDay([0, duration()]); told("One of the worst records: go through its disagreements (d)."); }
  else show([one.from, one.to]);
}

// ---- deciding

const chosen = () => element("rhythm").value;
function rhythmOf(verdict) {
  const { af, names } = state.record.rhythms_allowed, isAf = (rhythm) => af.includes(rhythm);
  if (verdict === "cannot tell") return "";
  if (verdict === "flutter") return "AFL";
  if (verdict === "accept") return isAf(chosen()) ? chosen() : af[0];
  if (verdict === "correct") return chosen() || af[0];
  return chosen() && !isAf(chosen()) ? chosen() : names.includes("N") ? "N" : names.find((one) => !isAf(one));
}

// Limits that were drawn in leave the rest of the passage to what it is not.
function decisionsOf(verdict) {
  const made = [[state.passage, verdict, rhythmOf(verdict)]];
  if (verdict === "correct" && state.origin && state.record.rhythms_allowed.af.includes(made[0][2])) {
    const [from, to] = state.origin, [a, b] = state.passage;
    for (const rest of [[from, Math.min(a, to)], [Math.max(b, from), to]]) {
      if (rest[1] - rest[0] > 1 / state.record.fs) made.push([rest, "correct", rhythmOf("reject")]);
    }
  }
  return made;
}

function decide(verdict) {
  if (role !== "reviewer") { told("You may look, and not decide: ask for the role reviewer.", true); return; }
  if (!state.passage) { told("Choose a passage first: e, d or j, or [ and ] where it begins and ends.", true); return; }
  if (state.passage[1] <= state.passage[0]) { told("The passage ends before it begins.", true); return; }
  const remark = element("remark").value.trim(), fs = state.record.fs;
  for (const [[from, to], kind, rhythm] of decisionsOf(verdict)) {
    const start = Math.round(from * fs), end = Math.min(Math.round(to * fs), state.record.samples);
    keep({ id: newId(), dataset, record: name, start, end: Math.max(end, start + 1), verdict: kind, rhythm, remark, version: state.record.version });
  }
  element("remark").value = ""; element("rhythm").value = "";
  told("Saving ...");
  deliver();
}

function deliver() {
  send((words, fault, isNew) => { told(words, fault); if (isNew) { renew(); askQueue(); } });
}
setInterval(() => { if (waiting()) deliver(); }, 2000);

// ---- what changes meanwhile: other reviewers' decisions, the model's answers, the queue

let shape = "";
async function renew() {
  const news = await ask("/data/decisions", own).catch(() => null);
  if (!news) return;
  const answered = state.record.waiting && !news.waiting;
  Object.assign(state.record, news); state.stamp += 1;
  if (answered) { askDay(); askBeats(); summary(); }
  const now = JSON.stringify(news.decisions.map((one) => one.id));
  if (now !== shape) { shape = now; list(); }
  draw();
  if (news.waiting) pause(400).then(renew);
}
setInterval(() => { if (!document.hidden) renew(); }, 5000);

function list() {
  const rows = state.record.decisions.toReversed().slice(0, 200).map((one) => {
    const row = document.createElement("li"), go = document.createElement("button");
    go.type = "button"; go.textContent = `${clock(one.from)} – ${clock(one.to)}`;
    go.onclick = () => show([one.from, one.to]);
    const text = document.createElement("span");
    text.textContent = ` ${letter(one.verdict)} ${one.verdict}${one.rhythm ? `: ${one.rhythm}` : ""}, ${one.reviewer}, ${one.time.slice(0, 16).replace("T", " ")}`;
    row.append(go, text);
    if (one.remark) { const remark = document.createElement("q"); remark.textContent = one.remark; row.append(remark); }
    return row;
  });
  element("decisions").replaceChildren(...rows);
  element("decided").textContent = state.record.decisions.length ? `Decisions (${state.record.decisions.length})` : "No decisions yet";
}

const askQueue = latest(async () => {
  const queue = await ask("/data/queue", { dataset }).catch(() => null);
  if (!queue) return;
  state.cases = queue.cases;
  element("queue-state").textContent = queue.looked < queue.records
    ? `${queue.looked} of ${queue.records} records looked at` : `${queue.count} passages to look at`;
  const items = queue.cases.slice(0, 40).map((one) => {
    const row = document.createElement("li"), link = document.createElement("a");
    link.href = caseAddress(one);
    link.textContent = `${one.record} ${clock(one.from)}`;
    link.onclick = (event) => { event.preventDefault(); openCase(one); };
    row.append(link, ` ${one.kind}: ${one.truth || "?"} / ${one.answer}`);
    row.classList.toggle("here", isCase(one));
    return row;
  });
  element("queue").replaceChildren(...items);
  if (queue.looked < queue.records) pause(700).then(askQueue);
});

// ---- words beside the pictures

function words() {
  const { record } = state, inside = (spans) => spans.some(([a, b]) => a <= middle() && middle() < b);
  const rhythm = record.rhythms.find(([a, b]) => a <= middle() && middle() < b);
  element("place").textContent = `${clock(middle(), true)} of ${clock(duration())}`;
  element("here").textContent = `truth ${rhythm ? rhythm[2] || "unknown" : "–"}; model ${
    record.waiting ? "is being asked" : record.fault ? record.fault : inside(record.told) ? "AF" : inside(record.untold) ? "cannot tell" : "not AF"}`;
  element("passage").textContent = state.passage
    ? `${clock(state.passage[0], true)} – ${clock(state.passage[1], true)} (${(state.passage[1] - state.passage[0]).toFixed(2)} s)`
    : "none";
  const seconds = state.ecg.span[1] - state.ecg.span[0], mm = strip() / (seconds * (PAPER / 25));
  element("speed").textContent = mm >= 1 ? `${mm.toFixed(mm < 10 ? 1 : 0)} mm/s` : clock(seconds);
  for (const mode of ["select", "measure"]) element(mode).setAttribute("aria-pressed", state.mode === mode);
}

const share = (spans) => {
  const all = state.record.stretches.reduce((sum, [a, b]) => sum + b - a, 0);
  return all ? `${(100 * spans.reduce((sum, [a, b]) => sum + b - a, 0) / all).toFixed(1)} %` : "nothing";
};
function summary() {
  const { record } = state;
  if (record.waiting) told(`${record.beats} beats. AF by annotation ${share(record.truth)}; the model is being asked.`);
  else if (record.fault) told(`${record.beats} beats. AF by annotation ${share(record.truth)}; ${record.fault}`, true);
  else told(`${record.beats} beats. AF by annotation ${share(record.truth)}, by model ${share(record.told)}, it cannot tell of ${share(record.untold)}; ${record.differences.length} ${record.differences.length === 1 ? "disagreement" : "disagreements"}.`);
}

// ---- keys and buttons: one table

const setLimit = (which) => {
  const at = middle(), before = state.passage || [at, at];
  state.passage = which ? [Math.min(before[0], at), at] : [at, Math.max(before[1], at)];
  told(`Passage ${state.passage.map((s) => clock(s, true)).join(" to ")}.`); remember(); draw();
};
const scroll = (part) => { const width = state.ecg.span[1] - state.ecg.span[0]; setEcg(state.ecg.span.map((s) => s + part * width)); };
const setMode = (mode) => { state.mode = state.mode === mode ? "move" : mode; if (mode !== "measure" || state.mode !== mode) state.measure = null; draw(); };
const DEEDS = {
  left: () => scroll(-0.75), right: () => scroll(0.75), back: () => scroll(-0.1), on: () => scroll(0.1),
  in: () => setEcg(zoomed(state.ecg.span, middle(), 0.5)), out: () => setEcg(zoomed(state.ecg.span, middle(), 2)),
  first: () => centre(0), last: () => centre(duration()),
  paper: () => centre(middle(), paperSpan()), whole: () => setEcg([0, duration()]),
  episode: () => step(united(), 1, "episode"), episodeBefore: () => step(united(), -1, "episode"),
  difference: () => step(state.record.differences, 1, "disagreement"), differenceBefore: () => step(state.record.differences, -1, "disagreement"),
  next: () => stepCase(1), previous: () => stepCase(-1),
  start: () => setLimit(0), end: () => setLimit(1),
  accept: () => decide("accept"), reject: () => decide("reject"), correct: () => decide("correct"),
  flutter: () => decide("flutter"), untold: () => decide("cannot tell"),
  remark: () => element("remark").focus(),
  lead: () => toggleLead(), select: () => setMode("select"), measure: () => setMode("measure"),
  near: () => { const span = state.passage || state.ecg.span, width = span[1] - span[0]; setDay([span[0] - width, span[1] + width]); },
  far: () => setDay([0, duration()]),
  help: () => element("help").toggleAttribute("open"),
};
const KEYS = {
  ArrowLeft: "left", ArrowRight: "right", "Shift+ArrowLeft": "back", "Shift+ArrowRight": "on", ArrowUp: "in", ArrowDown: "out", "+": "in", "-": "out",
  Home: "first", End: "last", 1: "paper", 0: "whole", e: "episode", E: "episodeBefore", d: "difference", D: "differenceBefore",
  j: "next", k: "previous", "[": "start", "]": "end", a: "accept", r: "reject", c: "correct", f: "flutter", u: "untold", m: "remark",
  l: "lead", s: "select", x: "measure", z: "near", Z: "far", "?": "help",
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !state.record) return;
  if (event.target.closest("textarea, select, input")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const arrow = event.key.startsWith("Arrow");
  const deed = KEYS[arrow && event.shiftKey ? `Shift+${event.key}` : event.key];
  if (!deed || (event.repeat && !["left", "right", "back", "on", "in", "out"].includes(deed))) return;
  event.preventDefault();
  DEEDS[deed]();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-deed]");
  if (button && state.record) DEEDS[button.dataset.deed]();
});

function toggleLead() {
  const [first, ...others] = state.record.leads;
  if (!others.length) { told("The record has one lead."); return; }
  const now = others.indexOf(state.leads[1]), next = others[now + 1];
  state.leads = next ? [first, next] : [first];
  element("leads").textContent = state.leads.join(" and ");
  askEcg(); draw();
}

// ---- pointer and wheel

const timeAt = (canvas, span, event) => {
  const box = canvas.getBoundingClientRect();
  return span[0] + ((event.clientX - box.left - GUTTER) / (box.width - GUTTER)) * (span[1] - span[0]);
};
const within = (at) => Math.min(Math.max(at, 0), duration());

function point(canvas, view, drag) {
  let start = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || !state.record) return;
    canvas.setPointerCapture(event.pointerId);
    start = { x: event.clientX, y: event.clientY, at: within(timeAt(canvas, view.span, event)), span: view.span, mode: event.shiftKey ? "select" : state.mode, moved: false };
    drag(start, event, start.at);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!start) return;
    start.moved ||= Math.abs(event.clientX - start.x) > 3;
    if (start.moved) drag(start, event, within(timeAt(canvas, view.span, event)));
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { start = null; });
  canvas.addEventListener("wheel", (event) => {
    if (!state.record) return;
    event.preventDefault();
    const set = view === state.day ? setDay : setEcg, width = view.span[1] - view.span[0];
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
    if (sideways) set(view.span.map((s) => s + (sideways / canvas.clientWidth) * width));
    else set(zoomed(view.span, within(timeAt(canvas, view.span, event)), 1.0015 ** event.deltaY));
  }, { passive: false });
}
const selected = (start, at) => { state.passage = [Math.min(start.at, at), Math.max(start.at, at)]; remember(); draw(); };

point(canvases.day, state.day, (start, event, at) => {
  if (start.mode === "select") { if (start.moved) selected(start, at); return; }
  const episode = !start.moved && [...state.record.differences, ...united()].find(([a, b]) => a <= at && at < b);
  if (episode && event.type === "pointerdown") { state.passage = [...episode]; state.origin = [...episode]; }
  centre(at);
});
point(canvases.ecg, state.ecg, (start, event, at) => {
  if (start.mode === "select") { if (start.moved) selected(start, at); return; }
  if (start.mode === "measure") {
    state.measure = { from: start.at, to: at, rise: -(event.clientY - start.y) / (10 * 96 / 25.4) };
    draw(); return;
  }
  if (!start.moved) return;
  const box = canvases.ecg.getBoundingClientRect(), width = start.span[1] - start.span[0];
  setEcg(start.span.map((s) => s - ((event.clientX - start.x) / (box.width - GUTTER)) * width));
});

// ---- the beginning

async function begin() {
  readColours();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours(); state.stamp += 1; if (state.day.data) state.day.data.picture = scatterPicture(state.day.data); draw();
  });
  canvases.day.style.height = `${dayHeight(1)}px`;
  try { state.record = await ask("/data/record", own); } catch (error) { told(error.message, true); return; }
  const { record } = state;
  state.leads = record.leads.slice(0, 2);
  element("leads").textContent = state.leads.join(" and ") || "none";
  for (const note of record.notes) { const row = document.createElement("li"); row.textContent = note; element("notes").append(row); }
  element("model").textContent = record.model;
  for (const rhythm of record.rhythms_allowed.names) element("rhythm").append(new Option(rhythm, rhythm));
  state.day.span = [0, record.duration];
  const passage = (query.get("passage") || "").split("-").map(Number);
  const number = (field) => (query.get(field) === null ? NaN : Number(query.get(field)));
  const asked = Number.isFinite(number("at")) ? number("at") : number("sample") / record.fs;
  if (passage.length === 2 && passage[0] < passage[1] && passage[1] <= record.duration + 1) {
    state.passage = [...passage]; state.origin = [...passage];
  }
  const start = Number.isFinite(asked) ? asked : state.passage ? state.passage[0] : (record.truth[0] || record.told[0] || [record.duration / 2])[0];
  const wide = paperSpan();
  state.ecg.span = held([start - wide / 2, start + wide / 2], 1);
  askDay(); askEcg(); draw(); list();
  if (record.waiting) pause(150).then(renew);
  askQueue();
  if (waiting()) deliver();
  addEventListener("resize", () => { askDay(); setEcg(state.ecg.span); });
  summary();
  document.body.dataset.ready = "yes";
}
begin();

if (person) element("who").textContent = `${person}, ${role}`;
