// The static site: sorting, filtering rows by text, and trial.html, which draws a trial from data/trials/*.js.
// Everything from outside is set as text, never as HTML.
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
let about_site = null, wanted = null;

function about(found) { about_site = found; show(); }
function trials(found) { if (wanted && found[wanted]) draw(wanted, found[wanted]); else missing(); }

function make(tag, attributes, ...children) {
  const svg = ["svg", "path", "text", "rect", "title", "g"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  for (const child of children) node.append(child);
  return node;
}

function load(path) {
  const script = make("script", { src: path });
  script.onerror = missing;
  document.head.append(script);
}

function show() {
  wanted = location.hash.slice(1).toLowerCase();
  if (!/^[0-9a-f]{8,64}$/.test(wanted)) { wanted = null; return say("Follow a cell of a leaderboard to see its trial."); }
  load(`data/trials/${wanted.slice(-about_site.digits)}.js`);
}

function place() { return document.getElementById("trial"); }
function say(words) { place().replaceChildren(make("p", { class: "lead" }, words)); }
function missing() { say(`There is no trial ${wanted || ""} in this site.`); }

function ticks(low, high) {
  const span = high - low;
  if (!(span > 0)) return [low];
  let step = 10 ** Math.floor(Math.log10(span / 4));
  step *= [1, 2, 5, 10].find(m => span / (m * step) <= 6);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * span; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function chart(title, unit, series, epochs) {
  const width = 400, height = 236, left = 52, right = 388, top = 10, bottom = 198;
  const xs = series.flatMap(s => s.x), ys = series.flatMap(s => s.y);
  const [x0, x1] = [1, Math.max(epochs, ...xs)];
  const [a, b] = [Math.min(...ys), Math.max(...ys)], room = (b - a) * 0.06 || Math.abs(b) * 0.05 || 0.5;
  const [y0, y1] = [a - room, b + room];
  const x = v => x1 > x0 ? left + (v - x0) / (x1 - x0) * (right - left) : (left + right) / 2;
  const y = v => bottom - (v - y0) / (y1 - y0) * (bottom - top);
  const svg = make("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title }, make("title", {}, title));
  const grid = make("g", { class: "grid" });
  for (const t of ticks(y0, y1)) {
    grid.append(make("path", { d: `M${left} ${y(t)}H${right}` }));
    svg.append(make("text", { class: "tick", x: left - 6, y: y(t) + 4, "text-anchor": "end" }, String(t)));
  }
  svg.append(grid);
  for (const t of ticks(x0, x1).filter(Number.isInteger)) svg.append(make("text", { class: "tick", x: x(t), y: bottom + 16, "text-anchor": "middle" }, String(t)));
  svg.append(make("path", { class: "axis", d: `M${left} ${bottom}H${right}` }),
    make("text", { class: "title", x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }, "epoch"),
    make("text", { class: "title", transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, unit));
  const legend = make("ul", { class: "legend" });
  series.forEach((s, i) => {
    const d = s.x.length > 1 ? s.x.map((v, k) => `${k ? "L" : "M"}${x(v).toFixed(1)} ${y(s.y[k]).toFixed(1)}`).join("")
      : `M${x(s.x[0]) - 4} ${y(s.y[0])}h8m-4 -4v8`;
    svg.append(make("path", { class: `line l${i}`, d, "stroke-dasharray": s.x.length > 1 ? DASHES[i] : "" }, make("title", {}, s.name)));
    const sample = make("svg", { viewBox: "0 0 28 14", width: 28, height: 14, "aria-hidden": "true" }, make("path", { class: `l${i}`, d: "M0 7H28", "stroke-dasharray": DASHES[i] }));
    legend.append(make("li", {}, sample, s.name));
  });
  return make("div", {}, make("figcaption", {}, title), make("figure", {}, svg, ...(series.length > 1 ? [legend] : [])));
}

function matrix(counts) {
  const n = counts.length, cell = Math.min(36, 380 / n), left = 54, top = 34;
  const size = Math.round(left + n * cell + 10);
  const svg = make("svg", { class: "chart", viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": "Transition matrix of the training labels" });
  svg.append(make("text", { class: "title", x: left + n * cell / 2, y: 12, "text-anchor": "middle" }, "given class"),
    make("text", { class: "title", transform: `translate(12 ${top + n * cell / 2}) rotate(-90)`, "text-anchor": "middle" }, "clean class"));
  counts.forEach((line, i) => {
    const total = line.reduce((a, b) => a + b, 0) || 1;
    if (cell >= 14) svg.append(make("text", { class: "tick", x: left - 6, y: top + (i + 0.5) * cell + 4, "text-anchor": "end" }, String(i)),
      make("text", { class: "tick", x: left + (i + 0.5) * cell, y: top - 6, "text-anchor": "middle" }, String(i)));
    line.forEach((count, j) => {
      const share = count / total;
      if (!share && n > 20) return;
      svg.append(make("rect", { class: "heat", x: left + j * cell, y: top + i * cell, width: cell - 1, height: cell - 1, "fill-opacity": share.toFixed(3) },
        make("title", {}, `clean class ${i}, given class ${j}: ${(100 * share).toFixed(1)} %`)));
      if (cell >= 26 && share >= 0.005) svg.append(make("text", { class: share > 0.55 ? "number strong" : "number", x: left + (j + 0.5) * cell, y: top + (i + 0.5) * cell + 4, "text-anchor": "middle" }, (100 * share).toFixed(0)));
    });
  });
  return make("div", { class: "charts" }, make("figure", {}, svg));
}

function list(pairs) {
  const node = make("dl");
  for (const [name, value] of pairs) if (value !== null && value !== undefined && value !== "") node.append(make("dt", {}, name), make("dd", {}, String(value)));
  return node;
}

function section(title, ...nodes) { return [make("h2", {}, title), ...nodes]; }
function box(words) { return make("pre", { tabindex: 0 }, words); }
function parsed(words) { try { return JSON.parse(words); } catch { return null; } }

function draw(id, trial) {
  const parts = [], places = trial.places || [];
  for (const [suite, method, setting, seed] of places) {
    const line = make("p", { class: "lead" }, make("b", {}, method), ` on ${setting}, seed ${seed}`);
    const slug = about_site.suites[suite];
    parts.push(line, make("p", { class: "note" }, "in ", slug ? make("a", { href: `${slug}.html` }, suite) : suite));
  }
  if (trial.status === "failed") parts.push(...section("✕ Failed", make("p", { class: "bad" }, trial.error || ""), box(trial.traceback || "")));
  const charts = make("div", { class: "charts" });
  const curves = { ...trial.curves, ...trial.further };
  const epochs = Math.max(1, ...Object.values(curves).map(c => c.x ? Math.max(...c.x) : (c.y || []).length));
  for (const { title, unit, factor, curves: drawn } of about_site.charts) {
    const series = drawn.map(([column, name]) => ({ name, ...curves[column] })).filter(s => s.y && s.y.length)
      .map(s => ({ name: s.name, x: s.x || s.y.map((_, i) => i + 1), y: s.y.map(v => factor * v) }));
    if (series.length) charts.append(chart(title, unit, series, epochs));
  }
  parts.push(...section("Training", charts.children.length ? charts : make("p", { class: "note" }, "No epoch has been recorded.")));
  const counts = parsed(trial.transitions);
  if (counts) parts.push(...section("Labels", matrix(counts)));
  parts.push(...section("Metrics", list((trial.metrics || []).map(([metric, at, value]) => [`${metric} at ${at}`, value]))));
  const environment = parsed(trial.environment) || {};
  parts.push(...section("Where it comes from", list([["trial", id], ["status", trial.status], ["commit", environment.commit],
    ["versions", Object.entries(environment.versions || {}).map(pair => pair.join(" ")).join(", ")], ["host", environment.host],
    ["device", [environment.device, environment.device_name].filter(Boolean).join(", ")], ["label digest", trial.label_digest]])));
  if (places.length) parts.push(...section("Run it again", box(`harness run SUITE.toml --select id=${id}`)));
  parts.push(...section("Configuration", box(JSON.stringify(parsed(trial.identity), null, 2))));
  if (trial.log) parts.push(...section("Log", box(trial.log)));
  place().replaceChildren(...parts);
  document.title = places.length ? `${places[0][1]}, seed ${places[0][3]}` : "Trial";
}

sortable(document);
for (const box of document.querySelectorAll("[data-filter]")) {
  box.oninput = () => {
    const part = box.value.toLowerCase();
    for (const row of document.querySelectorAll("main table tbody tr")) row.hidden = !row.children[0].textContent.toLowerCase().includes(part);
  };
}
if (place()) { window.onhashchange = show; load("data/about.js"); }
