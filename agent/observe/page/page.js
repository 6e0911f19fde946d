// Draws what /metrics says, a point every two seconds. Whatever is shown goes into the page as text, never as markup.
"use strict";

const PERIOD = 2000;  // milliseconds
const POINTS = 150;
const LONGEST = 4 << 20;  // characters of an answer

// Each line: its label, and what is added up of a sample, as a rate per second or as it is.
const PLOTS = [
  { title: "Connections", unit: "", lines: [
    { label: "open", level: ["kveil_connections_open"] }] },
  { title: "Throughput", unit: "B/s", lines: [
    { label: "to brokers", rate: ['kveil_sent_bytes_total{to="broker"}'] },
    { label: "to clients", rate: ['kveil_sent_bytes_total{to="client"}'] }] },
  { title: "Records", unit: "/s", lines: [
    { label: "sealed", rate: ["kveil_records_sealed_total"] },
    { label: "opened", rate: ["kveil_records_opened_total"] }] },
  { title: "Records denied", unit: "/s", lines: [
    { label: "refused", rate: ['kveil_records_refused_total{reason="denied"}'] },
    { label: "left out or masked", rate: ['kveil_records_dropped_total{reason="denied"}', 'kveil_records_masked_total{reason="denied"}'] }] },
  { title: "Other refusals", unit: "/s", lines: [
    { label: "records", rate: ["kveil_records_refused_total"], less: ['kveil_records_refused_total{reason="denied"}'] }] },
  { title: "Erasures", unit: "", lines: [
    { label: "since the start", level: ["kveil_users_erased_total"] }] },
];

const byId = (id) => document.getElementById(id);

function make(name, attributes, text) {
  const node = name === "svg" || name === "polyline" || name === "line"
    ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Prometheus' text format: values by name with labels, and their sums by name alone.
function parse(text) {
  const values = new Map();
  for (const line of text.split("\n")) {
    const match = /^([a-z_]+)(\{[^}]*\})? ([-+.0-9eE]+)$/.exec(line);
    if (match === null) continue;
    const value = Number(match[3]);
    if (match[2]) values.set(match[1] + match[2], value);
    values.set(match[1], (values.get(match[1]) || 0) + value);
  }
  return values;
}

// Of a label whose values have neither quotes nor braces, as all of these metrics.
function labelOf(text, metric, label) {
  const line = text.split("\n").find((each) => each.startsWith(metric + "{")) || "";
  const match = new RegExp(`[{,]${label}="([^"]*)"`).exec(line);
  return match === null ? "" : match[1];
}

const sum = (values, names) => (names || []).reduce((total, name) => total + (values.get(name) || 0), 0);

// undefined: there is no earlier sample to compare with, or the agent has started anew since.
function pointOf(line, now, before) {
  if (line.level) return sum(now.values, line.level);
  if (before === null) return undefined;
  const of = (sample) => sum(sample.values, line.rate) - sum(sample.values, line.less);
  const more = of(now) - of(before);
  return more < 0 ? undefined : more / ((now.time - before.time) / 1000);
}

// "1.5 kB/s"
function short(number, unit) {
  for (const [size, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= size) return `${(number / size).toFixed(1)} ${prefix}${unit}`;
  }
  const digits = number >= 100 || Number.isInteger(number) ? 0 : 1;
  return `${number.toFixed(digits)} ${unit}`.trim();
}

const WIDTH = 300, HEIGHT = 100;

function draw(plot) {
  const points = plot.lines.flatMap((line) => line.points).filter((point) => point !== undefined);
  const most = Math.max(1, ...points);
  plot.top.textContent = `up to ${short(most, plot.unit)}`;
  plot.lines.forEach((line) => {
    const at = (point, index) => {
      const x = WIDTH - (line.points.length - 1 - index) * WIDTH / (POINTS - 1);
      return `${x.toFixed(1)},${(HEIGHT - 2 - point / most * (HEIGHT - 4)).toFixed(1)}`;
    };
    // What is missing is missing in the middle, too: the line goes on behind it.
    const drawn = line.points.map((point, index) => (point === undefined ? "" : at(point, index))).filter(Boolean);
    line.shape.setAttribute("points", drawn.join(" "));
    const last = line.points[line.points.length - 1];
    line.now.textContent = `${line.label} ${last === undefined ? "–" : short(last, plot.unit)}`;
  });
}

function build() {
  for (const plot of PLOTS) {
    const figure = make("figure", { "data-plot": plot.title });
    const caption = make("figcaption");
    const legend = make("p", { class: "legend" });
    const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": plot.title });
    for (const y of [2, HEIGHT / 2, HEIGHT - 2]) svg.append(make("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y }));
    plot.lines.forEach((line, index) => {
      line.points = [];
      line.now = make("span", { class: index === 0 ? "first" : "second" }, line.label);
      line.shape = make("polyline", { class: index === 0 ? "first" : "second" });
      legend.append(line.now);
      svg.append(line.shape);
    });
    plot.top = make("span");
    legend.append(plot.top);
    caption.append(make("h2", {}, plot.title), legend);
    figure.append(caption, svg);
    byId("plots").append(figure);
  }
}

function showState(text, kind) {
  byId("state").textContent = text;
  byId("state").className = kind;
}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(5000) });
  if (!answer.ok) return null;
  const text = await answer.text();
  return text.length > LONGEST ? null : text;
}

function showConnections(text) {
  const answer = JSON.parse(text);
  const rows = answer.connections.slice(0, 50).map((one) => {
    const row = make("tr");
    const cells = [one.workload, one.cluster, one.broker, one.clientId || "", short(one.requestBytes, "B"), short(one.responseBytes, "B"),
                   ...[one.sealed, one.opened, one.denied, one.refused].map((count) => short(count, ""))];
    // A workload chooses some of these: what turns the direction of text, or has no shape, is shown as a dot.
    for (const cell of cells) row.append(make("td", {}, String(cell).replace(/[\p{C}\u2028\u2029]/gu, "·")));
    return row;
  });
  byId("rows").replaceChildren(...rows);
  byId("count").textContent = `${answer.connections.length} of ${answer.total}, those with the most traffic of late first`;
  byId("list").hidden = false;
}

let before = null;
let hasList = true;

async function look() {
  let text = null;
  try {
    text = await get("metrics");
  } catch (error) {
    text = null;
  }
  if (text === null) {
    before = null;
    for (const plot of PLOTS) plot.lines.forEach((line) => line.points.push(undefined));
    showState("The agent does not answer", "bad");
  } else {
    const now = { time: performance.now(), values: parse(text) };
    for (const plot of PLOTS) plot.lines.forEach((line) => line.points.push(pointOf(line, now, before)));
    before = now;
    const isReady = now.values.get("kveil_ready") === 1;
    showState(isReady ? "ready" : "NOT ready: see kveil status", isReady ? "good" : "bad");
    const version = labelOf(text, "kveil_policy_info", "version");
    byId("facts").textContent = [
      `version ${labelOf(text, "kveil_build_info", "version")}`,
      `${now.values.get("kveil_namespaces") || 0} network namespaces`,
      `policies ${labelOf(text, "kveil_policy_info", "digest").slice(0, 12)}${version === "0" ? "" : `, signed as version ${version}`}`,
      ...(now.values.get("kveil_policy_refused") === 1 ? ["newer policies are refused"] : []),
    ].join(" · ");
  }
  for (const plot of PLOTS) {
    plot.lines.forEach((line) => line.points.splice(0, line.points.length - POINTS));
    draw(plot);
  }
  if (!hasList) return;
  try {
    const answer = await fetch("connections.json", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (answer.status === 404) hasList = false;  // it is off
    if (answer.ok) showConnections(await answer.text());
  } catch (error) {
    // Those from before stay: the state says whether the agent answers.
  }
}

async function follow() {
  if (!document.hidden) await look();
  setTimeout(follow, PERIOD);
}

build();
follow();
