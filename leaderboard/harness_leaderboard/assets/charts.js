// Charts as SVG, on the pages and in the static site: charts.py or site.js says what is in one, drawn() draws it.
// Themed by CSS. Series differ by dash and marker as well as colour, every mark has a title, every chart a name for screen
// readers. Everything from outside is set as text or as an attribute, never as HTML.
const SVG = new Set(["svg", "g", "path", "circle", "rect", "text", "title"]);
const WIDTH = 400, HEIGHT = 236, LEFT = 52, RIGHT = WIDTH - 12, TOP = 10, BOTTOM = 38;
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "5 2 1 2 1 2", "12 4"];
const DOT_ROOM = 17;
// Points of a curve up to which each has a marker; beyond, they would hide the line, and only one between gaps has.
const MOST_MARKED = 16;

function make(tag, attributes, ...children) {
  const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const place = value => value.toFixed(1);
const within = (value, low, high) => Math.min(Math.max(value, low), high);
const number = value => Math.abs(value) < 1e4 ? String(Number(value.toPrecision(6))) : Math.round(value).toLocaleString("en");
const tick = (x, y, anchor, words) => make("text", { class: "tick", x: place(x), y: place(y), "text-anchor": anchor }, words);
const below = (x, y, words) => make("text", { class: "title", x: place(x), y: place(y), "text-anchor": "middle" }, words);
const beside = (y, words) => make("text", { class: "title", transform: `translate(12 ${place(y)}) rotate(-90)`, "text-anchor": "middle" }, words);

// A scale from data to pixels over some values, with room at both ends; linear or logarithmic.
function scale(values, start, end, { log = false, pad = 0.06 } = {}) {
  let low = Math.min(...values), high = Math.max(...values);
  if (log) [low, high] = [low / 1.4, high * 1.4];
  else {
    const room = (high - low) * pad || Math.abs(high) * 0.05 || 0.5;
    [low, high] = [low - room, high + room];
  }
  const [from, to, of] = log ? [Math.log10(low), Math.log10(high), Math.log10] : [low, high, value => value];
  const at = value => start + (of(value) - from) / (to - from) * (end - start);
  return { at, low, high, ticks: log && high / low > 4 ? powers(low, high) : ticks(low, high) };
}

// Round values inside a range, some five of them.
function ticks(low, high) {
  let step = 10 ** Math.floor(Math.log10((high - low) / 4));
  step *= [1, 2, 5, 10].find(m => (high - low) / (m * step) <= 6);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function powers(low, high) {
  const steps = Math.log10(high / low) < 2.5 ? [1, 2, 5] : [1], found = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) found.push(...steps.map(s => s * 10 ** p));
  return found.filter(value => low <= value && value <= high);
}

function svg(name, width, height, ...body) {
  const attributes = { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name };
  return make("svg", attributes, make("title", {}, name), ...body);
}

function frame(x, y, xTitle, yTitle, height) {
  const bottom = height - BOTTOM;
  return [
    make("g", { class: "grid" }, ...y.ticks.map(t => make("path", { d: `M${LEFT} ${place(y.at(t))}H${RIGHT}` }))),
    ...y.ticks.map(t => tick(LEFT - 6, y.at(t) + 4, "end", number(t))),
    ...x.ticks.map(t => tick(x.at(t), bottom + 16, "middle", number(t))),
    make("path", { class: "axis", d: `M${LEFT} ${bottom}H${RIGHT}` }),
    below((LEFT + RIGHT) / 2, height - 4, xTitle), beside((TOP + bottom) / 2, yTitle),
  ];
}

// A marker, whose form depends on its kind, so that groups differ without colour.
function marker(kind, x, y, r) {
  const form = ["circle", "square", "diamond", "triangle", "cross", "ring"][kind % 6], look = { class: `s${kind % 8}` };
  if (form === "ring" || form === "cross") Object.assign(look, { fill: "none", "stroke-width": form === "ring" ? 2 : 2.4 });
  if (form === "circle" || form === "ring") return make("circle", { ...look, cx: place(x), cy: place(y), r });
  const d = {
    square: `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    diamond: `M${x} ${y - 1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`,
    triangle: `M${x} ${y - 1.2 * r}l${1.2 * r} ${2.2 * r}h${-2.4 * r}z`,
    cross: `M${x - r} ${y - r}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`,
  }[form];
  return make("path", { ...look, d });
}

// A mark with what is said of it, as a link where it leads somewhere.
function mark(point, ...drawn) {
  const group = make("g", {}, ...drawn, make("title", {}, point.text));
  if (!point.href) return group;
  const link = document.createElementNS("http://www.w3.org/2000/svg", "a");
  link.setAttribute("href", point.href);
  link.setAttribute("data-go", "");
  link.append(group);
  return link;
}

function path(points) {
  return points.map((p, i) => p ? `${i && points[i - 1] ? "L" : "M"}${place(p[0])} ${place(p[1])}` : "").join("");
}

// What is what, with a marker where the curve has one; nothing for a single series.
function legend(series, marked) {
  if (series.length < 2) return [];
  return [make("ul", { class: "legend" }, ...series.map((s, i) => {
    const line = make("path", { class: `l${i % 8}`, d: "M0 7H28", "stroke-dasharray": DASHES[i % DASHES.length] });
    const sample = make("svg", { viewBox: "0 0 28 14", width: 28, height: 14, "aria-hidden": "true" }, line);
    if (marked[i]) sample.append(marker(i, 14, 7, 3.2));
    return make("li", {}, sample, s.name);
  }))];
}

// Curves over a common x, with their bands. A value that is null leaves a gap.
function lines({ name, x: xTitle, y: yTitle, series, span }) {
  const known = value => value !== null && value !== undefined;
  const xs = [...series.flatMap(s => s.x.filter((_, k) => known(s.y[k]))), ...(span || [])];
  const x = scale(xs, LEFT, RIGHT, { pad: 0.02 });
  if (xs.every(Number.isInteger)) x.ticks = x.ticks.filter(Number.isInteger);
  const y = scale(series.flatMap(s => [...s.y, ...(s.low || []), ...(s.high || [])]).filter(known), HEIGHT - BOTTOM, TOP);
  const body = frame(x, y, xTitle, yTitle, HEIGHT), marked = [];
  series.forEach((s, i) => {
    if (s.low && s.high) {
      const whole = s.x.map((_, k) => k).filter(k => known(s.low[k]) && known(s.high[k]));
      const edge = [...whole.map(k => [x.at(s.x[k]), y.at(s.high[k])]), ...whole.reverse().map(k => [x.at(s.x[k]), y.at(s.low[k])])];
      body.push(make("path", { class: `band b${i % 8}`, d: `${path(edge)}Z` }));
    }
    const points = s.y.map((v, k) => known(v) ? [x.at(s.x[k]), y.at(v)] : null), there = points.filter(p => p);
    const shown = there.length <= MOST_MARKED ? there : points.filter((p, k) => p && !points[k - 1] && !points[k + 1]);
    const last = s.y.filter(known).at(-1);
    marked.push(shown.length > 0);
    body.push(make("g", {},
      make("path", { class: `line l${i % 8}`, d: path(points), "stroke-dasharray": DASHES[i % DASHES.length] }),
      ...shown.map(p => marker(i, p[0], p[1], 3.2)),
      make("title", {}, known(last) ? `${s.name}: ${number(last)} at the end` : s.name)));
  });
  return [svg(name, WIDTH, HEIGHT, ...body), ...legend(series, marked)];
}

// The range without far outliers (three times the inter-quartile range away): one collapsed method squeezes no chart.
function body(values) {
  const ordered = [...values].sort((a, b) => a - b), n = ordered.length;
  const low = ordered[Math.floor(n / 4)], high = ordered[Math.floor(3 * n / 4)], reach = 3 * (high - low);
  return n >= 4 && reach > 0 ? [low - reach, high + reach] : [ordered[0], ordered[n - 1]];
}

// Marks with labels and their intervals as whiskers; those on the front are joined by a staircase.
function scatter({ name, x: xTitle, y: yTitle, log, points }) {
  const height = 320, floor = height - BOTTOM, [low, high] = body(points.map(p => p.y));
  const x = scale(points.map(p => p.x), LEFT, RIGHT - 30, { log });
  const y = scale(points.map(p => p.y).filter(v => low <= v && v <= high), floor - 10, TOP + 8, { pad: 0.1 });
  const drawn = frame(x, y, xTitle, yTitle, height);
  const front = points.filter(p => p.front && low <= p.y && p.y <= high).sort((a, b) => a.x - b.x);
  const stairs = front.map((p, i) => i ? `H${place(x.at(p.x))}V${place(y.at(p.y))}` : `M${place(x.at(p.x))} ${place(y.at(p.y))}`);
  if (front.length) drawn.push(make("path", { class: "front", d: `${stairs.join("")}H${RIGHT}` }));
  const at = points.map(p => [x.at(p.x), p.y < low ? floor - 6 : p.y > high ? TOP + 4 : y.at(p.y)]);
  const taken = at.map(([px, py]) => [px - 7, py, 14]);
  points.forEach((p, i) => {
    const [px, py] = at[i];
    if (p.xSpan) {
      const [left, right] = p.xSpan.map(v => place(within(x.at(log ? Math.max(v, x.low) : v), LEFT, RIGHT)));
      drawn.push(make("path", { class: "whisker", d: `M${left} ${place(py)}H${right}` }));
    }
    if (p.ySpan && low <= p.y && p.y <= high) {
      const [bottom, top] = p.ySpan.map(v => place(within(y.at(v), TOP, floor)));
      drawn.push(make("path", { class: "whisker", d: `M${place(px)} ${bottom}V${top}` }));
    }
  });
  const order = [...points.keys()].sort((a, b) => points[b].front - points[a].front);
  for (const [p, [px, py]] of order.map(i => [points[i], at[i]])) {
    const open = () => make("circle", { class: "open", cx: place(px), cy: place(py), r: 5 });
    drawn.push(mark(p, p.open ? open() : marker(p.front ? 0 : 5, px, py, 5.5)));
    const away = p.y < low ? " ↓" : p.y > high ? " ↑" : "";
    const label = away ? `${p.label} ${number(Math.round(p.y * 100) / 100)}${away}` : p.label, wide = 7.2 * label.length;
    // Below right keeps clear of the staircase, which leaves every point to the right and arrives from below.
    const free = [[px + 9, py + 4], [px + 7, py + 17], [px - 9 - wide, py + 4], [px + 7, py - 9], [px - wide, py - 9]].find(([start, ly]) =>
      start > LEFT && start + wide < WIDTH && TOP < ly && ly < floor && !(p.front && start > px && ly === py + 4)
      && taken.every(([a, b, w]) => Math.abs(ly - 4 - b) > 11 || start > a + w || start + wide < a));
    if (!free) continue;
    taken.push([free[0], free[1] - 4, wide]);
    drawn.push(make("text", { class: "label", x: place(free[0]), y: place(free[1]) }, label));
  }
  return [svg(name, WIDTH, height, ...drawn)];
}

// Values on one axis with their mean and interval.
function dots({ name, x: xTitle, points, interval, mean }) {
  const x = scale([...points.map(p => p.x), ...(interval || [])], LEFT, RIGHT - 20), placed = [];
  for (const p of [...points].sort((a, b) => a.x - b.x)) {
    const taken = new Set(placed.filter(([at]) => x.at(p.x) - at < DOT_ROOM).map(([, row]) => row));
    placed.push([x.at(p.x), [...points.keys()].find(row => !taken.has(row)), p]);
  }
  const level = 26 + DOT_ROOM * Math.max(...placed.map(([, row]) => row)), height = level + 66, floor = height - BOTTOM;
  const drawn = [make("path", { class: "axis", d: `M${LEFT} ${floor}H${RIGHT}` }),
    ...x.ticks.map(t => tick(x.at(t), floor + 16, "middle", number(t))), below((LEFT + RIGHT) / 2, height - 4, xTitle)];
  if (interval) drawn.push(make("path", { class: "interval", d: `M${place(x.at(interval[0]))} ${level + 14}H${place(x.at(interval[1]))}` }));
  if (mean !== null) drawn.push(make("path", { class: "mean", d: `M${place(x.at(mean))} ${level + 8}V${level + 20}` }));
  for (const [at, row, p] of placed) {
    const y = level - DOT_ROOM * row, label = make("text", { class: "tick", x: place(at + 9), y: place(y + 4) }, p.label);
    drawn.push(mark(p, marker(p.front ? 0 : 5, at, y, 5.5), label));
  }
  return [svg(name, WIDTH, height, ...drawn)];
}

// A square matrix of shares; numbers are written where there is room.
function heatmap({ name, rows, columns, shares }) {
  const n = shares.length, cell = Math.min(36, 380 / n), left = 54, top = 34;
  const every = Math.ceil(14 / cell), middle = left + n * cell / 2;
  const drawn = [below(middle, 12, columns), beside(top + n * cell / 2, rows)];
  for (let i = 0; i < n; i += every) {
    drawn.push(tick(left - 6, top + (i + 0.5) * cell + 4, "end", String(i)), tick(left + (i + 0.5) * cell, top - 6, "middle", String(i)));
  }
  shares.forEach((line, i) => line.forEach((share, j) => {
    if (share <= 0 && n > 20) return;
    const x = left + j * cell, y = top + i * cell, box = { x: place(x), y: place(y), width: place(cell - 1), height: place(cell - 1) };
    drawn.push(make("rect", { class: "heat", ...box, "fill-opacity": share.toFixed(3) },
      make("title", {}, `${rows} ${i}, ${columns} ${j}: ${(100 * share).toFixed(1)} %`)));
    if (cell < 26 || share < 0.005) return;
    const words = { class: share > 0.55 ? "number strong" : "number", x: place(x + cell / 2), y: place(y + cell / 2 + 4), "text-anchor": "middle" };
    drawn.push(make("text", words, (100 * share).toFixed(0)));
  }));
  return [svg(name, Math.round(left + n * cell + 10), Math.round(top + n * cell + 10), ...drawn)];
}

// The figure of a description, as charts.py writes them.
function drawn(chart) {
  return make("figure", {}, ...{ lines, scatter, dots, heatmap }[chart.kind](chart));
}

// Draws the charts that a piece of HTML describes.
function draw_charts(root) {
  for (const figure of root.querySelectorAll("figure[data-chart]")) figure.replaceWith(drawn(JSON.parse(figure.dataset.chart)));
}
