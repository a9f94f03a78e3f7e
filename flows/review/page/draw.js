// How a day and a strip are drawn. Every array has its own stretch of time, so that what is known is
// drawn at once wherever the view moves, and what is asked for takes its place.

export const GUTTER = 64;
const MM = 96 / 25.4;
export const PAPER = 25 * MM; // pixels a second at 25 mm/s
export const GAIN = 10 * MM; // pixels a millivolt at 10 mm/mV

const style = () => getComputedStyle(document.documentElement);
let colours = {};
export function readColours() {
  const names = ["af", "other", "doubt", "untold", "good", "ink", "faint", "line", "paper", "panel", "gap",
    "ecg-paper", "ecg-fine", "ecg-bold"];
  colours = Object.fromEntries(names.map((name) => [name, style().getPropertyValue(`--${name}`).trim()]));
}

// A canvas of as many points as the screen has; gives its context and its size in CSS pixels.
export function prepared(canvas, height) {
  const scale = devicePixelRatio || 1, width = canvas.clientWidth;
  const size = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, sans-serif";
  return [pen, width];
}

export const clock = (seconds, fine = false) => {
  const ms = Math.round(Math.max(seconds, 0) * 1000), whole = fine ? Math.floor(ms / 1000) : Math.round(ms / 1000);
  const days = Math.floor(whole / 86400), pad = (n, digits = 2) => String(n).padStart(digits, "0");
  const text = `${pad(Math.floor((whole % 86400) / 3600))}:${pad(Math.floor((whole % 3600) / 60))}:${pad(whole % 60)}`;
  return `${days ? `${days} d ` : ""}${text}${fine ? `.${pad(ms % 1000, 3)}` : ""}`;
};

const STEPS = [0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800];

function axis(pen, place, span, top, bottom, width) {
  const step = STEPS.find((s) => (s / (span[1] - span[0])) * (width - GUTTER) >= 90) || 172800;
  pen.textAlign = "center";
  for (let at = Math.ceil(span[0] / step) * step; at <= span[1]; at += step) {
    const x = Math.round(place(at)) + 0.5;
    pen.strokeStyle = colours.line;
    pen.beginPath(); pen.moveTo(x, top); pen.lineTo(x, bottom); pen.stroke();
    pen.fillStyle = colours.faint;
    if (x > GUTTER + 22 && x < width - 22) pen.fillText(clock(at, step < 1).replace(/(\.\d)\d\d$/, "$1"), x, bottom + 13);
  }
  pen.textAlign = "left";
}

const lanes = (scale) => {
  let top = 4;
  const lane = (height, after = 8) => { const at = top; top += height + after; return { top: at, height }; };
  return { rr: lane(110 * scale), rate: lane(56 * scale), truth: lane(14, 4), told: lane(14, 4), made: lane(14, 8),
    p: lane(48 * scale), bad: lane(12, 2), end: () => top };
};
export const dayHeight = (scale) => lanes(scale).end() + 22;

const NAMES = { rr: "RR s", rate: "rate", truth: "truth", told: "model", made: "decided", p: "P(AF)", bad: "poor signal" };

function hatched(pen, x, y, w, h) {
  if (w <= 0) return;
  pen.save();
  pen.beginPath(); pen.rect(x, y, w, h); pen.clip();
  pen.fillStyle = colours.gap; pen.globalAlpha = 0.45; pen.fillRect(x, y, w, h); pen.globalAlpha = 1;
  pen.strokeStyle = colours.faint; pen.lineWidth = 0.5; pen.beginPath();
  for (let at = x - h - ((x - h) % 9); at < x + w; at += 9) { pen.moveTo(at, y + h); pen.lineTo(at + h, y); }
  pen.stroke(); pen.restore();
}

function gaps(pen, place, span, stretches, top, bottom) {
  let last = span[0];
  for (const [start, end] of [...stretches, [span[1], span[1]]]) {
    if (start > last && last < span[1]) {
      const [a, b] = [Math.max(place(last), place(span[0])), Math.min(place(start), place(span[1]))];
      hatched(pen, a, top, b - a, bottom - top);
    }
    last = Math.max(last, end);
  }
}

const drop = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
function pixel(name) {
  drop.fillStyle = colours[name]; drop.fillRect(0, 0, 1, 1);
  return drop.getImageData(0, 0, 1, 1).data;
}

// The cells of the scatter as a picture of one pixel a cell.
export function scatterPicture(day) {
  const picture = new OffscreenCanvas(day.columns, day.rows), pen = picture.getContext("2d");
  const image = pen.createImageData(day.columns, day.rows);
  const tints = [null, ...["faint", "other", "af"].map(pixel)];
  day.scatter.forEach((code, at) => {
    if (!code) return;
    const row = day.rows - 1 - Math.floor(at / day.columns), to = 4 * (row * day.columns + (at % day.columns));
    image.data.set(tints[code], to);
  });
  pen.putImageData(image, 0, 0);
  return picture;
}

function band(pen, spans, place, limits, lane, colour, outline) {
  pen.fillStyle = colours[colour]; pen.strokeStyle = colours[colour];
  for (const [start, end] of spans) {
    if (end < limits[0] || start > limits[1]) continue;
    const a = Math.max(place(start), GUTTER), b = Math.max(place(Math.min(end, limits[1])), a + 1.5);
    if (outline) pen.strokeRect(a + 0.5, lane.top + 1.5, b - a - 1, lane.height - 3);
    else pen.fillRect(a, lane.top, b - a, lane.height);
  }
}

// What a passage is after a decision has the colour of it.
const tintOf = (one, af) => (one.rhythm === "" ? "untold" : af.includes(one.rhythm) ? "af" : one.verdict === "flutter" ? "doubt" : "other");
export const letter = (verdict) => ({ accept: "A", reject: "R", correct: "C", flutter: "F", "cannot tell": "U" })[verdict];

function made(pen, decisions, af, place, limits, lane) {
  for (const one of decisions) {
    if (one.to < limits[0] || one.from > limits[1]) continue;
    const a = Math.max(place(one.from), GUTTER), b = Math.max(place(Math.min(one.to, limits[1])), a + 3);
    pen.fillStyle = colours[tintOf(one, af)];
    pen.fillRect(a, lane.top, b - a, lane.height);
    pen.fillStyle = colours.paper;
    if (b - a > 12) pen.fillText(letter(one.verdict), a + 3, lane.top + 11);
  }
}

// Least and greatest of each column; where not every column has a beat, a line from beat to beat.
function profile(pen, day, values, place, lane, scale, colour) {
  const step = (day.to - day.from) / day.columns, x = (n) => place(day.from + n * step);
  const up = (v) => lane.top + lane.height * (1 - Math.min(1, Math.max(0, scale(v))));
  if (step > 5) { columns(pen, values, [0, day.columns], x, up, colours[colour]); return; }
  const beats = [];
  for (let n = 0; n < day.columns; n++) if (!Number.isNaN(values[2 * n])) beats.push(n);
  pen.strokeStyle = colours[colour]; pen.lineWidth = 1.2; pen.beginPath();
  beats.forEach((n, at) => {
    const here = [x(n + 0.5), up(values[2 * n])];
    if (at && (n - beats[at - 1]) * step < 5) pen.lineTo(...here); else pen.moveTo(...here);
    pen.lineTo(here[0], up(values[2 * n + 1]));
  });
  pen.stroke();
}

// What changes with the day is drawn once; where the ECG is and what is chosen lie over it.
let base = { key: "", canvas: null };
export function drawDay(canvas, state) {
  const scale = canvas.clientWidth < 600 ? 0.72 : 1, height = dayHeight(scale);
  canvas.style.height = `${height}px`;
  const [pen, width] = prepared(canvas, height), bottom = lanes(scale).end() - 2, span = state.day.span;
  const place = (s) => GUTTER + ((s - span[0]) / (span[1] - span[0])) * (width - GUTTER);
  const key = [width, canvas.width, scale, span, state.day.data?.key, state.stamp].join(" ");
  if (base.key !== key) {
    base = { key, canvas: new OffscreenCanvas(canvas.width, canvas.height) };
    const below = base.canvas.getContext("2d");
    below.setTransform(pen.getTransform()); below.font = pen.font;
    drawBase(below, state, { width, height, scale, place, bottom });
  }
  pen.save(); pen.setTransform(1, 0, 0, 1, 0, 0); pen.drawImage(base.canvas, 0, 0); pen.restore();
  pen.save();
  pen.beginPath(); pen.rect(GUTTER, 0, width - GUTTER, height); pen.clip();
  passage(pen, state, place, 0, bottom);
  const [e0, e1] = state.ecg.span.map(place);
  pen.strokeStyle = colours.ink; pen.lineWidth = 1.5;
  pen.strokeRect(Math.max(e0, GUTTER + 1), 1, Math.max(e1 - e0, 2), bottom - 2);
  pen.restore();
}

function drawBase(pen, state, { width, height, scale, place, bottom }) {
  const lane = lanes(scale), span = state.day.span, about = state.record, day = state.day.data;
  pen.fillStyle = colours.panel; pen.fillRect(GUTTER, 0, width - GUTTER, bottom);
  axis(pen, place, span, 0, bottom, width);
  gaps(pen, place, span, about.stretches, 0, bottom);
  pen.save();
  pen.beginPath(); pen.rect(GUTTER, 0, width - GUTTER, height); pen.clip();
  if (day) {
    pen.imageSmoothingEnabled = false;
    const a = place(day.from), b = place(day.to);
    pen.drawImage(day.picture, a, lane.rr.top, b - a, lane.rr.height);
    profile(pen, day, day.rate, place, lane.rate, (v) => (v - 30) / 170, "ink");
    profile(pen, day, day.probability, place, lane.p, (v) => v, "untold");
    pen.fillStyle = colours.doubt;
    const step = (b - a) / day.columns;
    day.bad.forEach((share, n) => {
      if (share > 0) pen.fillRect(a + n * step, lane.bad.top + lane.bad.height * (1 - share), Math.max(step, 1), lane.bad.height * share);
    });
  }
  band(pen, about.truth, place, span, lane.truth, "af");
  band(pen, about.told, place, span, lane.told, "af");
  if (day) day.untold.forEach((share, n) => {
    const wide = (place(day.to) - place(day.from)) / day.columns;
    if (share > 0.5) hatched(pen, place(day.from) + n * wide, lane.told.top, Math.max(wide, 1.5), lane.told.height);
  });
  band(pen, about.differences, place, span, { top: lane.truth.top, height: lane.told.top + lane.told.height - lane.truth.top }, "ink", true);
  made(pen, about.decisions, about.rhythms_allowed.af, place, span, lane.made);
  pen.restore();
  for (const [name, words] of Object.entries(NAMES)) {
    pen.fillStyle = colours.faint;
    pen.fillText(words, 0, lane[name].top + Math.min(11, lane[name].height));
  }
  ruled(pen, lane.rr, ["0", "1", "2"]); ruled(pen, lane.rate, ["30", "", "200"]); ruled(pen, lane.p, ["0", "", "1"]);
  if (!about.told.length && about.waiting) { pen.fillText("asking the model ...", GUTTER + 4, lane.told.top + 11); }
}

function ruled(pen, lane, texts) {
  pen.textAlign = "right"; pen.fillStyle = colours.faint;
  texts.forEach((text, n) => {
    const y = lane.top + lane.height * (1 - n / 2);
    pen.fillText(text, GUTTER - 4, n === 2 ? y + 10 : n === 0 ? y : y + 4);
  });
  pen.textAlign = "left";
}

function passage(pen, state, place, top, bottom) {
  if (!state.passage) return;
  const [a, b] = state.passage.map(place);
  pen.fillStyle = colours.good; pen.globalAlpha = 0.14;
  pen.fillRect(a, top, Math.max(b - a, 2), bottom - top);
  pen.globalAlpha = 1; pen.strokeStyle = colours.good; pen.lineWidth = 1.5;
  pen.beginPath(); for (const x of [a, b]) { pen.moveTo(x, top); pen.lineTo(x, bottom); } pen.stroke();
}

// On paper the passage is a line along its foot: what it holds is read as it is.
function limits(pen, state, place, top, bottom) {
  if (!state.passage) return;
  const [a, b] = state.passage.map(place);
  pen.fillStyle = colours.good;
  pen.fillRect(a, bottom - 5, Math.max(b - a, 2), 5);
  for (const x of [a, b]) pen.fillRect(x - 1, top, 2, bottom - top);
}

function grid(pen, place, span, lane, width) {
  const wide = width - GUTTER, mm = wide / (span[1] - span[0]) / 25;
  pen.fillStyle = colours["ecg-paper"]; pen.fillRect(GUTTER, lane.top, wide, lane.height);
  const lines = (step, colour) => {
    pen.fillStyle = colours[colour];
    for (let at = Math.ceil(span[0] / (step * 0.04)) * step * 0.04; at < span[1]; at += step * 0.04) pen.fillRect(Math.round(place(at)), lane.top, 1, lane.height);
    const up = step * MM, foot = lane.top + lane.height;
    for (let y = foot - lane.height / 2 - Math.floor(lane.height / 2 / up) * up; y < foot; y += up) pen.fillRect(GUTTER, Math.round(y), wide, 1);
  };
  if (mm >= 3) lines(1, "ecg-fine");
  if (mm >= 0.8) lines(5, "ecg-bold");
}

function trace(pen, data, place, lane, state) {
  const { span } = state.ecg;
  const values = data.values, count = values.length / 2, step = (data.to - data.from) / count;
  const middles = [];
  for (let n = 0; n < count; n += Math.max(1, Math.floor(count / 400))) {
    const middle = (values[2 * n] + values[2 * n + 1]) / 2;
    if (!Number.isNaN(middle)) middles.push(middle);
  }
  middles.sort((a, b) => a - b);
  const zero = middles.length ? middles[middles.length >> 1] : 0;
  const up = (v) => lane.top + lane.height / 2 - (v - zero) * GAIN;
  pen.save();
  pen.beginPath(); pen.rect(GUTTER, lane.top, 1e5, lane.height); pen.clip();
  const first = Math.max(0, Math.floor((span[0] - data.from) / step) - 1), last = Math.min(count, Math.ceil((span[1] - data.from) / step) + 1);
  const samples = (state.record.fs * (span[1] - span[0])) / (place(span[1]) - place(span[0]));
  if (samples > 6) columns(pen, values, [first, last], (n) => place(data.from + n * step), up, colours.ink);
  else line(pen, values, [first, last], (n) => place(data.from + (n + 0.5) * step), up);
  pen.restore();
}

// So many samples that each column of points is a bar; a path of as many corners takes ten times as long.
function columns(pen, values, [first, last], x, up, colour) {
  pen.fillStyle = colour;
  let before = null;
  for (let n = first; n < last; n++) {
    if (Number.isNaN(values[2 * n])) { before = null; continue; }
    const low = up(values[2 * n]), high = up(values[2 * n + 1]);
    const top = before ? Math.min(high, before[0]) : high, foot = before ? Math.max(low, before[1]) : low;
    const at = x(n);
    pen.fillRect(at, top - 0.5, Math.max(x(n + 1) - at, 0.6), foot - top + 1);
    before = [low, high];
  }
}

function line(pen, values, [first, last], x, up) {
  pen.strokeStyle = colours.ink; pen.lineWidth = 1.1; pen.lineJoin = "round"; pen.beginPath();
  let open = false;
  for (let n = first; n < last; n++) {
    const low = values[2 * n], high = values[2 * n + 1];
    if (Number.isNaN(low)) { open = false; continue; }
    if (open) pen.lineTo(x(n), up(low)); else pen.moveTo(x(n), up(low) - 0.5);
    if (high !== low) pen.lineTo(x(n), up(high));
    open = true;
  }
  pen.stroke();
}

function marks(pen, beats, place, lane, span) {
  const close = beats.length && (place(span[1]) - place(span[0])) / beats.length > 13;
  pen.textAlign = "center";
  for (const beat of beats) {
    const x = place(beat.s);
    pen.fillStyle = colours[beat.label === 1 ? "af" : beat.label === 0 ? "other" : "faint"];
    pen.fillRect(x - 0.5, lane.top + 14, 1, 6);
    if (close) pen.fillText(beat.symbol || "·", x, lane.top + 11);
    if (beat.af !== null) {
      pen.fillStyle = colours[beat.sure ? (beat.af ? "af" : "other") : "untold"];
      if (beat.sure && beat.af) pen.fillRect(x - 3, lane.top + 22, 6, 4);
      else pen.fillRect(x - 1, lane.top + 22, 2, 4);
    }
  }
  pen.textAlign = "left";
}

export function drawEcg(canvas, state) {
  const count = Math.max(1, state.leads.length), narrow = canvas.clientWidth < 600;
  const one = narrow ? 130 : 168, top = 30, height = top + count * (one + 6) + 20;
  canvas.style.height = `${height}px`;
  const [pen, width] = prepared(canvas, height), span = state.ecg.span;
  const place = (s) => GUTTER + ((s - span[0]) / (span[1] - span[0])) * (width - GUTTER);
  state.leads.forEach((name, n) => {
    const lane = { top: top + n * (one + 6), height: one }, data = state.ecg.data[name];
    grid(pen, place, span, lane, width);
    gaps(pen, place, span, state.record.stretches, lane.top, lane.top + one);
    if (data && data.values) trace(pen, data, place, lane, state);
    pen.fillStyle = colours.ink; pen.fillText(name.slice(0, 9), 0, lane.top + 14);
    pen.fillStyle = colours.faint; pen.fillText("10 mm/mV", 0, lane.top + 30);
    if (data && data.waiting) pen.fillText("reading the whole lead, once ...", GUTTER + 8, lane.top + 20);
    if (data && data.fault) pen.fillText(data.fault.slice(0, 160), GUTTER + 8, lane.top + 20);
  });
  if (!state.leads.length) { pen.fillStyle = colours.faint; pen.fillText("There is no signal here.", GUTTER + 8, top + 20); }
  pen.save();
  pen.beginPath(); pen.rect(GUTTER, 0, width - GUTTER, height); pen.clip();
  marks(pen, state.ecg.beats || [], place, { top: 0 }, span);
  limits(pen, state, place, top, height - 20);
  calipers(pen, state, place, top, height - 20);
  const middle = place((span[0] + span[1]) / 2);
  pen.strokeStyle = colours.faint; pen.setLineDash([3, 4]); pen.lineWidth = 1;
  pen.beginPath(); pen.moveTo(middle, top); pen.lineTo(middle, height - 20); pen.stroke();
  pen.restore();
  axis(pen, place, span, height - 20, height - 18, width);
  pen.fillStyle = colours.faint; pen.fillText("truth", 0, 18); pen.fillText("model", 0, 29);
}

function calipers(pen, state, place, top, bottom) {
  if (!state.measure) return;
  const { from, to, rise } = state.measure, [a, b] = [place(from), place(to)], ms = Math.abs(to - from) * 1000;
  pen.strokeStyle = colours.other; pen.fillStyle = colours.other; pen.lineWidth = 1.5;
  pen.beginPath();
  for (const x of [a, b]) { pen.moveTo(x, top); pen.lineTo(x, bottom); }
  pen.moveTo(a, top + 10); pen.lineTo(b, top + 10); pen.stroke();
  const rate = ms > 100 ? `, ${Math.round(60000 / ms)} /min` : "";
  const text = `${Math.round(ms)} ms${rate}, ${rise.toFixed(2)} mV`;
  pen.fillStyle = colours.paper; pen.fillRect(Math.min(a, b) + 4, top + 14, pen.measureText(text).width + 8, 17);
  pen.fillStyle = colours.other; pen.fillText(text, Math.min(a, b) + 8, top + 26);
}
