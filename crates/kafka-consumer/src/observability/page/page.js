"use strict";
const KEPT = 600;
const byId = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** Formats seconds with one unit: "85 ms", "3.2 s", "4 min", "7 h". */
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const [value, unit] = seconds < 1 ? [seconds * 1e3, "ms"] : seconds < 60 ? [seconds, "s"]
    : seconds < 3600 ? [seconds / 60, "min"] : seconds < 86400 ? [seconds / 3600, "h"] : [seconds / 86400, "d"];
  return `${value < 10 && unit !== "ms" && value % 1 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

const CHARTS = [
  { name: "Throughput", unit: "rows/s", format: (v) => whole.format(v), tick: (v) => short.format(v),
    series: [{ key: "rows", label: "rows/s", tone: "rows", area: true }] },
  { name: "Lag", unit: "records", format: (v) => whole.format(v), tick: (v) => short.format(v),
    series: [{ key: "lag", label: "records", tone: "lag", area: true }] },
  { name: "Latency", unit: "record timestamp to commit", format: duration, tick: duration, log: true,
    series: [{ key: "p50", label: "p50", tone: "p50" }, { key: "p99", label: "p99", tone: "p99", dashed: true }] },
  { name: "Duplicates and dead letters", unit: "per second", format: (v) => whole.format(v), tick: (v) => short.format(v),
    series: [{ key: "duplicates", label: "duplicates", tone: "duplicates" },
      { key: "dead_letters", label: "dead letters", tone: "letters", dashed: true }] },
];
const MARGIN = { left: 52, right: 10, top: 10, bottom: 22 };

let seconds = [];   // history from /state, oldest first
let state = null;   // last response
let ahead = 0;      // consumer's clock minus this one, in milliseconds
let span = 300;     // seconds shown
let cursor = null;  // selected time in milliseconds; null is now
let lost = null;    // time of the first failed request

function linear(top) {
  const step = [1, 2, 2.5, 5, 10].map((m) => m * 10 ** Math.floor(Math.log10(top / 4))).find((s) => s * 4 >= top * 0.999);
  const size = Math.max(step, 1);
  const count = Math.max(Math.ceil(top / size - 1e-9), 1);
  return { ticks: Array.from({ length: count + 1 }, (_, i) => i * size), at: (v) => v / (size * count) };
}

function logarithmic(values) {
  const marks = [0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 21600, 86400, 864000];
  const low = values.length ? Math.min(...values) : 0.01;
  const high = values.length ? Math.max(...values) : 1;
  let from = Math.max(marks.findLastIndex((m) => m <= low), 0);
  let to = marks.findIndex((m) => m >= high);
  if (to < 0) to = marks.length - 1;
  if (to <= from) to = from + 1;
  if (to - from < 2 && from > 0) from -= 1;
  const [a, b] = [Math.log(marks[from]), Math.log(marks[to])];
  return { ticks: marks.slice(from, to + 1), at: (v) => Math.min(Math.max((Math.log(v) - a) / (b - a), 0), 1) };
}

/** Runs of consecutive seconds with a value; a missing or unknown second leaves a gap. */
function runs(shown, key) {
  const all = [];
  let last = -Infinity;
  for (const second of shown) {
    const known = second[key] !== null;
    if (known && second.at - last < 2500 && all.length) all[all.length - 1].push(second);
    else if (known) all.push([second]);
    if (known) last = second.at;
  }
  return all;
}

function build(chart) {
  const figure = document.createElement("figure");
  figure.className = "chart";
  figure.tabIndex = 0;
  figure.setAttribute("role", "group");
  const legend = chart.series.length > 1
    ? chart.series.map((s) => `<span><i class="${s.tone}${s.dashed ? " dashed" : ""}"></i>${s.label}</span>`).join("") : "";
  figure.innerHTML = `<figcaption><b>${chart.name}</b><span>${chart.unit}</span>${legend}<output></output></figcaption><svg aria-hidden="true"></svg>`;
  chart.figure = figure;
  chart.svg = figure.querySelector("svg");
  chart.output = figure.querySelector("output");
  chart.svg.addEventListener("pointermove", (event) => {
    const box = chart.svg.getBoundingClientRect();
    const share = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
    look(share < 0 || share > 1 ? null : end() - (1 - share) * span * 1000);
  });
  chart.svg.addEventListener("pointerleave", () => look(null));
  figure.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (event.key === "Escape" || event.key === "End") look(null);
    else if (event.key === "Home") look(end() - span * 1000);
    else if (step) look(Math.min(Math.max((cursor ?? end()) + step * 1000, end() - span * 1000), end()));
    else return;
    event.preventDefault();
    chart.output.setAttribute("aria-live", "polite");
  });
  figure.addEventListener("blur", () => { chart.output.removeAttribute("aria-live"); look(null); });
  byId("charts").append(figure);
}

const end = () => Date.now() + ahead;

function look(at) {
  cursor = at;
  CHARTS.forEach(draw);
}

function draw(chart) {
  const width = chart.svg.clientWidth || 400;
  const height = 170;
  const [right, bottom] = [width - MARGIN.right, height - MARGIN.bottom];
  const [to, from] = [end(), end() - span * 1000];
  const shown = seconds.filter((s) => s.at > from - 1000 && s.at <= to);
  const values = chart.series.flatMap((s) => shown.map((one) => one[s.key])).filter((v) => v !== null);
  const scale = chart.log ? logarithmic(values) : linear(Math.max(...values, 1));
  const x = (at) => MARGIN.left + (Math.max(at - from, 0) / (span * 1000)) * (right - MARGIN.left);
  const y = (v) => bottom - scale.at(v) * (bottom - MARGIN.top);
  let svg = scale.ticks.map((v) => `<line class="grid" x1="${MARGIN.left}" x2="${right}" y1="${y(v)}" y2="${y(v)}"/>`
    + `<text x="${MARGIN.left - 7}" y="${y(v) + 4}" text-anchor="end">${chart.tick(v)}</text>`).join("");
  const step = span / 5;
  for (let ago = span; ago >= 0; ago -= step) {
    if (width < 420 && ago === span - step) continue;
    const anchor = ago === span ? "start" : ago === 0 ? "end" : "middle";
    const name = ago === 0 ? "now" : ago % 60 ? `−${ago} s` : `−${ago / 60} min`;
    svg += `<text x="${x(to - ago * 1000)}" y="${height - 5}" text-anchor="${anchor}">${name}</text>`;
  }
  for (const one of chart.series) {
    for (const run of runs(shown, one.key)) {
      const points = run.map((s) => `${x(s.at).toFixed(1)},${y(s[one.key]).toFixed(1)}`);
      if (run.length === 1) svg += `<circle class="dot ${one.tone}" r="2" cx="${x(run[0].at)}" cy="${y(run[0][one.key])}"/>`;
      else {
        if (one.area) svg += `<path class="area ${one.tone}" d="M${x(run[0].at)},${bottom}L${points.join("L")}L${x(run.at(-1).at)},${bottom}Z"/>`;
        svg += `<path class="curve ${one.tone}${one.dashed ? " dashed" : ""}" d="M${points.join("L")}"/>`;
      }
    }
  }
  const at = cursor === null ? shown.at(-1) : shown.findLast((s) => s.at <= cursor + 500);
  if (cursor !== null && at) {
    svg += `<line class="cursor" x1="${x(at.at)}" x2="${x(at.at)}" y1="${MARGIN.top}" y2="${bottom}"/>`;
    for (const one of chart.series) if (at[one.key] !== null) svg += `<circle class="dot ${one.tone}" r="4" cx="${x(at.at)}" cy="${y(at[one.key])}"/>`;
  }
  if (!values.length) svg += `<text x="${(MARGIN.left + right) / 2}" y="${height / 2}" text-anchor="middle">no data</text>`;
  chart.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  chart.svg.innerHTML = svg;
  tell(chart, at, values);
}

/** Writes the selected value as text, for the screen and for screen readers. */
function tell(chart, at, values) {
  const one = (s) => (at && at[s.key] !== null ? chart.format(at[s.key]) : "unknown");
  const words = chart.series.length > 1 ? chart.series.map((s) => `${s.label} ${one(s)}`).join(", ") : one(chart.series[0]);
  const when = at && cursor !== null ? `${clock.format(at.at - ahead)}  ` : "";
  chart.output.textContent = at ? when + words : "";
  const top = values.length ? `; maximum ${chart.format(Math.max(...values))}` : "";
  chart.figure.setAttribute("aria-label", `${chart.name}, ${chart.unit}: ${words}${top} in the last ${span / 60} minutes. Arrow keys select single seconds.`);
}

function cell(row, text, tag = "td") {
  const one = document.createElement(tag);
  if (tag === "th") one.scope = "row";
  one.textContent = text;
  row.append(one);
}

function table(id, lines) {
  byId(id).replaceChildren(...lines.map((line) => {
    const row = document.createElement("tr");
    line.forEach((text, place) => cell(row, text, place ? "td" : "th"));
    return row;
  }));
}

const number = (value) => (value === null || value === undefined ? "unknown" : whole.format(value));

function tiles() {
  const last = seconds.slice(-10);
  const rate = last.reduce((sum, s) => sum + s.records, 0) / Math.max(last.length, 1);
  byId("rate").textContent = number(rate < 10 && rate % 1 ? Number(rate.toFixed(1)) : Math.round(rate));
  const lags = state.partitions.map((p) => p.lag);
  const lag = state.kafka_error !== null || lags.includes(null) ? null : lags.reduce((a, b) => a + b, 0);
  byId("lag").textContent = number(lag);
  byId("lag-more").textContent = lag === null ? "no answer from Kafka" : rate >= 1 && lag / rate >= 1
    ? `${duration(lag / rate)} at this rate` : "unread records";
  const events = state.event_latency.p50 !== null;
  const { p50, p99 } = events ? state.event_latency : state.ingest_latency;
  byId("latency-name").textContent = events || p50 === null ? "Event to row, p99" : "Record to row, p99";
  byId("latency").textContent = p99 === null ? "–" : duration(p99);
  byId("latency-more").textContent = p99 === null ? "no records in the last minute" : `p50 ${duration(p50)}; last min`;
  byId("rows").textContent = number(state.rows);
  byId("rows-more").textContent = `of ${number(state.records)} records`;
  const all = state.group_totals;
  for (const [id, key] of [["rows", "rows"], ["duplicates", "duplicates"], ["letters", "dead_letters"]]) {
    byId(`${id}-all`).textContent = `group: ${number(all?.[key])}`;
  }
  byId("duplicates").textContent = number(state.duplicates);
  byId("duplicates-more").textContent = `${number(state.duplicates_differing)} with different content`;
  byId("letters").textContent = number(state.dead_letters);
  const left = ["expired", "suppressed"].filter((key) => state[key]).map((key) => `${number(state[key])} ${key}`).join(", ");
  byId("letters-more").textContent = left || (state.dead_letters ? "reasons below" : "none");
}

function tables() {
  const of = state.partitions;
  table("partitions", of.map((p) => [String(p.partition), number(p.next_offset), number(p.end), number(p.lag), number(p.rows),
    number(p.duplicates), number(p.dead_letters), p.last_commit_ago === null ? "none yet" : `${duration(p.last_commit_ago / 1000)} ago`]));
  const sum = (key) => (of.some((p) => p[key] === null) ? null : of.reduce((all, p) => all + p[key], 0));
  table("partitions-all", of.length ? [["All", "", "", number(sum("lag")), number(sum("rows")), number(sum("duplicates")), number(sum("dead_letters")), ""]] : [["none assigned"]]);
  byId("reasons-card").hidden = !state.reasons.length;
  byId("tables").classList.toggle("two", state.reasons.length > 0);
  table("reasons", state.reasons.toSorted((a, b) => b[1] - a[1]).map(([reason, count]) => [reason, number(count)]));
}

function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text; // announced once, not every second
}

/** Text about an open transaction. Ignores short ones, which every transactional producer has. */
function heldBack() {
  const one = state.partitions.find((p) => p.held_back_since !== null && state.now - p.held_back_since > 10_000);
  return one ? `Partition ${one.partition} is held back by a transaction open since ${day.format(one.held_back_since)}` : "";
}

function kafkaOutage() {
  return state.kafka_error === null ? ""
    : `Kafka unavailable since ${clock.format(state.kafka_unavailable_since - ahead)}: ${state.kafka_error}`;
}

function showStatus() {
  const away = lost !== null;
  document.body.classList.toggle("away", away);
  const good = !away && state && !state.not_ready;
  byId("status").classList.toggle("good", Boolean(good));
  setText("status", away ? "no answer" : good ? "ready" : "not ready");
  const notice = away
    ? `The consumer has not answered since ${clock.format(lost)}: it has stopped or cannot be reached. ${state ? "The figures below are its last ones." : "This page retries every second."}`
    : [kafkaOutage(), state.not_ready ? `Not ready: ${state.not_ready}` : ""].filter(Boolean).join(". ") || heldBack();
  byId("notice").hidden = !notice;
  setText("notice", notice);
}

function show() {
  const group = document.createElement("code");
  const topic = document.createElement("code");
  group.textContent = state.group;
  topic.textContent = state.topic;
  byId("who").replaceChildren("group ", group, " reads ", topic);
  document.title = `${state.group}: ${state.not_ready ? "not ready" : "ready"}`;
  byId("since").textContent = `Counts are of this process, since ${day.format(state.started)}; those of the group are of all its consumers`;
  byId("version").textContent = `version ${state.version}`;
  tiles();
  tables();
}

async function ask() {
  try {
    const answer = await fetch(`/state?since=${seconds.at(-1)?.at ?? 0}`, { signal: AbortSignal.timeout(3000) });
    if (!answer.ok) throw new Error(`${answer.status}`);
    state = await answer.json();
    ahead = state.now - Date.now();
    seconds = seconds.concat(state.seconds).slice(-KEPT);
    lost = null;
    show();
  } catch {
    lost ??= Date.now();
    document.title = "no answer";
  }
  showStatus();
  if (cursor === null || lost === null) CHARTS.forEach(draw);
}

CHARTS.forEach(build);
document.querySelectorAll("[name=span]").forEach((input) => input.addEventListener("change", () => {
  span = Number(input.value);
  look(null);
}));
new ResizeObserver(() => CHARTS.forEach(draw)).observe(byId("charts"));
(async () => {
  for (;;) {
    await ask();
    await new Promise((next) => setTimeout(next, 1000));
  }
})();
