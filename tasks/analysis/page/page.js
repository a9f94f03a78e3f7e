"use strict";
(() => {
  const NAME = "http://www.w3.org/2000/svg";
  const LEAD_IN = 10, MM_PER_S = 25, MARKS = 9, WIDTH = 260;
  const SIGNS = [["\u2013", "other"], ["A", "af"], ["\u2013?", "doubt"], ["A?", "doubt"]];
  const DOUBTFUL = 2, UNTOLD = 16;
  const signOf = (kind) => kind & UNTOLD && !(kind & DOUBTFUL) ? ["?", "untold"] : SIGNS[kind & 3];
  const data = JSON.parse(document.getElementById("strips").textContent);
  const table = document.querySelector("table.episodes");
  if (!table) return;
  const digit = new Map([...data.alphabet].map((letter, k) => [letter, k]));
  const base = data.alphabet.length, small = Math.floor((base - 2) / 2);

  // The inverse of `pack` (strips.py): levels in mm, NaN where there is no sample.
  const unpacked = (text) => {
    const out = [];
    let tenths = 0;
    for (let k = 0; k < text.length; k++) {
      let step = digit.get(text[k]);
      if (step === 0) { out.push(NaN); continue; }
      if (step === base - 1) {
        step = digit.get(text[k + 1]) * base + digit.get(text[k + 2]) - Math.floor(base * base / 2);
        k += 2;
      } else step -= small + 1;
      tenths += step;
      out.push(tenths / 10);
    }
    return out;
  };

  const put = (parent, tag, attributes, text) => {
    const element = document.createElementNS(NAME, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const line = (svg, kind, d, width) => d && put(svg, "path", { class: `l k-${kind}`, d, "stroke-width": width });

  const paper = (svg, height) => {
    put(svg, "path", { class: "b k-paper", d: `M0 0h${WIDTH}v${height}h${-WIDTH}z` });
    const grid = ["", ""];
    for (let x = 0; x <= WIDTH; x++) grid[x % 5 ? 0 : 1] += `M${x} 0v${height}`;
    for (let y = 0; y <= height; y++) grid[y % 5 ? 0 : 1] += `M0 ${y}h${WIDTH}`;
    line(svg, "fine", grid[0], 0.1);
    line(svg, "bold", grid[1], 0.15);
  };

  const drawn = ([caption, hz, height, zero, text, beats, af, gaps]) => {
    const figure = document.createElement("figure"), words = document.createElement("figcaption");
    figure.className = "strip";
    words.textContent = caption;
    const box = document.createElement("div");
    box.className = "wide";
    box.tabIndex = 0;
    const svg = put(box, "svg", { class: "d true", viewBox: `0 0 ${WIDTH} ${height}`, role: "img",
      style: `width:${WIDTH}mm;height:${height}mm` });
    paper(svg, height);
    for (const [spans, kind] of [[gaps, "gap"], [af, "af-wash"]])
      for (let k = 0; k < spans.length; k += 2)
        put(svg, "rect", { class: `b k-${kind}`, x: LEAD_IN + MM_PER_S * spans[k], y: 0,
          width: MM_PER_S * (spans[k + 1] - spans[k]), height });
    line(svg, "ink", `M1 ${zero}h1.5v-10h5v10h1.5`, 0.3);
    const levels = unpacked(text);
    let d = "", pen = "M";
    levels.forEach((level, k) => {
      if (Number.isNaN(level)) { pen = "M"; return; }
      const y = Math.min(Math.max(zero - level, 0.3), height - MARKS);
      d += `${pen}${(LEAD_IN + k * MM_PER_S / hz).toFixed(2)} ${y.toFixed(2)}`;
      pen = "L";
    });
    line(svg, "ink", d, 0.3);
    if (!d) put(svg, "text", { class: "k-faint", x: WIDTH / 2, y: zero, "font-size": 3.5, "text-anchor": "middle" }, "no signal here");
    const top = height - MARKS;
    let count = 0;
    for (let k = 0; k < beats.length; k += 2) {
      const x = LEAD_IN + MM_PER_S * beats[k] / 1000, kind = beats[k + 1], [sign, colour] = signOf(kind);
      count += kind & 1;
      line(svg, colour, `M${x} ${top + 1}v2`, 0.4);
      put(svg, "text", { class: `k-${colour}`, x, y: top + 7.2, "font-size": 3.2, "text-anchor": "middle", "font-weight": 600 }, sign);
      if (k && !(kind & 4))
        put(svg, "text", { class: "k-faint", x: x - MM_PER_S * (beats[k] - beats[k - 2]) / 2000, y: top + 3.4,
          "font-size": 2.3, "text-anchor": "middle" }, beats[k] - beats[k - 2]);
    }
    svg.setAttribute("aria-label", `ECG, ${Math.round(levels.length / hz)} s: ${beats.length / 2} beats, ${count} decided AF`);
    figure.append(words, box);
    return figure;
  };

  const toggle = (button) => {
    const row = button.closest("tr"), open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", open);
    if (!open) { row.nextElementSibling.remove(); return; }
    const below = document.createElement("tr"), cell = below.insertCell();
    below.className = "opened";
    cell.colSpan = row.cells.length;
    cell.append(...data.strips[button.textContent.replace(/\D/g, "")].map(drawn));
    row.after(below);
  };

  const sort = (button) => {
    const column = button.dataset.by, head = button.closest("th");
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    table.querySelectorAll("button[aria-expanded=true]").forEach(toggle);
    const rows = [...table.tBodies[0].rows], value = (row) => data[column][row.dataset.n - 1];
    rows.sort((a, b) => (down ? value(b) - value(a) : value(a) - value(b)));
    table.tBodies[0].append(...rows);
  };

  document.body.classList.remove("no-script");
  table.addEventListener("click", (event) => {
    if (event.target.closest("a")) return;
    const button = event.target.closest("button");
    if (button) return button.dataset.by ? sort(button) : toggle(button);
    const row = event.target.closest("tbody tr:not(.opened)"), own = row && row.querySelector("button");
    if (own && !String(getSelection())) toggle(own);
  });
})();
