// The static site: sorting, filtering rows by text, and trial.html, which shows a trial from data/trials/*.js.
// Everything from outside is set as text, never as HTML.
let about_site = null, wanted = null;

function about(found) { about_site = found; show(); }
function trials(found) { if (wanted && found[wanted]) tell(wanted, found[wanted]); else missing(); }

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

function shown() { return document.getElementById("trial"); }
function say(words) { shown().replaceChildren(make("p", { class: "lead" }, words)); }
function missing() { say(`There is no trial ${wanted || ""} in this site.`); }

// As on the page: shares of the given class for every clean class.
function transitions(counts) {
  const shares = counts.map(line => { const total = line.reduce((a, b) => a + b, 0) || 1; return line.map(count => count / total); });
  return { kind: "heatmap", name: "Transition matrix of the training labels, %", rows: "clean class", columns: "given class", shares };
}

function list(pairs) {
  const node = make("dl");
  for (const [name, value] of pairs) if (value !== null && value !== undefined && value !== "") node.append(make("dt", {}, name), make("dd", {}, String(value)));
  return node;
}

function section(title, ...nodes) { return [make("h2", {}, title), ...nodes]; }
function box(words) { return make("pre", { tabindex: 0 }, words); }
function parsed(words) { try { return JSON.parse(words); } catch { return null; } }

function tell(id, trial) {
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
  for (const { title, unit, factor, curves: members } of about_site.charts) {
    const series = members.map(([column, name]) => ({ name, ...curves[column] })).filter(s => s.y && s.y.length)
      .map(s => ({ name: s.name, x: s.x || s.y.map((_, i) => i + 1), y: s.y.map(v => factor * v) }));
    const chart = { kind: "lines", name: title, x: "epoch", y: unit, series, span: [1, epochs] };
    if (series.length) charts.append(make("div", {}, make("figcaption", {}, title), drawn(chart)));
  }
  parts.push(...section("Training", charts.children.length ? charts : make("p", { class: "note" }, "No epoch has been recorded.")));
  const counts = parsed(trial.transitions);
  if (counts) parts.push(...section("Labels", make("div", { class: "charts" }, drawn(transitions(counts)))));
  parts.push(...section("Metrics", list((trial.metrics || []).map(([metric, at, value]) => [`${metric} at ${at}`, value]))));
  const environment = parsed(trial.environment) || {};
  parts.push(...section("Where it comes from", list([["trial", id], ["status", trial.status], ["commit", environment.commit],
    ["versions", Object.entries(environment.versions || {}).map(pair => pair.join(" ")).join(", ")], ["host", environment.host],
    ["device", [environment.device, environment.device_name].filter(Boolean).join(", ")], ["label digest", trial.label_digest]])));
  if (places.length) parts.push(...section("Run it again", box(`harness run SUITE.toml --select id=${id}`)));
  parts.push(...section("Configuration", box(JSON.stringify(parsed(trial.identity), null, 2))));
  if (trial.log) parts.push(...section("Log", box(trial.log)));
  shown().replaceChildren(...parts);
  document.title = places.length ? `${places[0][1]}, seed ${places[0][3]}` : "Trial";
}

sortable(document);
for (const box of document.querySelectorAll("[data-filter]")) {
  box.oninput = () => {
    const part = box.value.toLowerCase();
    for (const row of document.querySelectorAll("main table tbody tr")) row.hidden = !row.children[0].textContent.toLowerCase().includes(part);
  };
}
draw_charts(document);
if (shown()) { window.onhashchange = show; load("data/about.js"); }
