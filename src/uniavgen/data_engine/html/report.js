const { numbers, clips } = data;
const { totals } = numbers;

const hours = (value) => (value >= 10 ? value.toFixed(1) + " h" : value >= 1 ? value.toFixed(2) + " h" :
  value >= 1 / 60 ? (60 * value).toFixed(1) + " min" : (3600 * value).toFixed(1) + " s");
const shown = (value) => (typeof value === "number" ? +value.toFixed(4) : value ?? "-");
const row = (...cells) => make("tr", {}, ...cells.map((cell) => (cell instanceof Node ? cell : make("td", {}, cell))));
const head = (...cells) => make("tr", {}, ...cells.map((text) => make("th", {}, text)));
const text = (...children) => make("td", { class: "text" }, ...children);
const short = (name) => make("td", { class: "text", title: name }, name.length > 24 ? name.slice(0, 16) + "..." : name);
const TEXTS = ["video", "person", "reasons"];

function bar(value) {
  const share = totals.video_hours ? (100 * value) / Math.max(totals.video_hours, totals.candidate_hours) : 0;
  return make("td", { class: "bar" }, make("i", { style: `width:${share.toFixed(2)}%` }));
}

function empty(table, sentence) {
  table.replaceChildren(make("tr", {}, make("td", { class: "none" }, sentence)));
}

function funnel() {
  const table = byId("funnel");
  table.append(head("step", "broken by", "by this alone", "left", "hours", ""));
  table.append(row(text("videos"), "", "", totals.videos, hours(totals.video_hours), bar(totals.video_hours)));
  table.append(row(text("candidates"), "", "", totals.candidates, hours(totals.candidate_hours), bar(totals.candidate_hours)));
  for (const step of numbers.rules) {
    table.append(row(text(step.reason, make("small", {}, step.rule)), step.violated, step.alone, step.left,
      hours(step.left_hours), bar(step.left_hours)));
  }
  const clip = `clips of ${totals.clip_frames} frames`;
  table.append(row(text(make("b", {}, clip)), "", "", totals.clips, hours(totals.clip_hours), bar(totals.clip_hours)));
}

function stages() {
  const table = byId("stages");
  if (!numbers.stages.length) return empty(table, "No stage was run.");
  table.append(head("stage", "measured", "not measurable", "not run yet"));
  for (const each of numbers.stages) table.append(row(each.stage, each.measured, each.failed, each.not_run));
}

function unused() {
  const table = byId("unused");
  if (!numbers.unused.length) return empty(table, "There is none.");
  table.append(head("reason", "videos", "for instance"));
  for (const each of numbers.unused) {
    table.append(row(make("td", { class: "reasons" }, each.reason), each.count, text(each.examples.join(", "))));
  }
}

function histogram(found) {
  const { edges } = found;
  const [low, high] = [edges[0], edges[edges.length - 1]];
  const x = (value) => (1000 * (value - low)) / (high - low);
  const most = Math.max(1, ...found.kept.map((count, bin) => count + found.dropped[bin]));
  const width = 1000 / found.kept.length;
  const bars = found.kept.flatMap((count, bin) => [["kept", 0, count], ["dropped", count, found.dropped[bin]]]
    .filter(([, , size]) => size)
    .map(([kind, below, size]) => make("rect", { class: kind, x: (bin * width).toFixed(1), width: (width - 1).toFixed(1),
      y: (98 - (94 * (below + size)) / most).toFixed(2), height: ((94 * size) / most).toFixed(2) })));
  const limits = [found.minimum, found.maximum].filter((value) => value !== null);
  const lines = limits.map((value) => make("line", { x1: x(value), x2: x(value), y1: 0, y2: 100 }));
  const bounds = [found.minimum === null ? "" : `at least ${found.minimum}`, found.maximum === null ? "" : `at most ${found.maximum}`];
  const labels = [found.reason ?? "no limit", ...bounds, found.missing ? `${found.missing} not measured` : ""];
  return make("figure", { "data-score": found.score },
    make("figcaption", {}, found.score, make("small", {}, labels.filter(Boolean).join("; "))),
    make("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": found.score }, ...bars, ...lines),
    make("div", { class: "axis" }, make("span", {}, shown(low)), make("span", {}, shown(high))));
}

function histograms() {
  byId("histograms").append(...numbers.histograms.map(histogram));
  if (!numbers.histograms.length) byId("histograms").append(make("p", {}, "Nothing was measured of any candidate."));
}

function group(title, found) {
  const table = make("table", {}, head(title, "videos", "candidates", "kept", "clips"));
  for (const each of found.rows) table.append(row(short(each.name), each.videos, each.candidates, each.kept, hours(each.clip_hours)));
  const more = found.count - found.rows.length;
  if (more) table.append(row(text(`and ${more} more`), "", "", "", ""));
  return make("div", { class: "wide" }, found.count ? table : make("p", {}, `no ${title}`));
}

function card(clip) {
  const sound = media[clip.key];
  const video = player(sound);
  const right = make("div");
  if (sound?.peaks.length) right.append(...waveform(video, sound));
  if (clip.text) right.append(make("p", { class: "words" }, clip.text));
  if (clip.caption) right.append(make("p", {}, clip.caption));
  const scores = make("table");
  const broken = Object.fromEntries(clip.reasons.map((each) => [each.rule.replace(/^scores\./, ""), each.reason]));
  for (const [name, value] of Object.entries(clip.scores)) {
    const why = broken[name];
    scores.append(make("tr", {}, make("td", {}, name), make("td", {}, shown(value)),
      make("td", { class: why ? "why problem" : "why" }, why ?? "")));
  }
  right.append(scores);
  for (const each of clip.reasons) {
    if (!(each.rule.replace(/^scores\./, "") in clip.scores)) right.append(make("p", { class: "problem" }, each.reason));
  }
  if (clip.problem) right.append(make("p", { class: "problem" }, clip.problem));
  const facts = ["key", "person", "language", "licence"].filter((name) => clip[name]).map((name) => `${name} ${clip[name]}`);
  return make("div", { class: "card" }, make("div", {}, ...(sound ? [video] : []), make("p", {}, facts.join(", "))), right);
}

const opened = new Set();
let sorted = { column: "", down: false };
const scoreNames = [...new Set(clips.flatMap((clip) => Object.keys(clip.scores)))]
  .filter((name) => clips.some((clip) => typeof clip.scores[name] === "number"));
const columns = {
  "": (clip) => (clip.kept ? 0 : 1),
  video: (clip) => clip.source,
  start: (clip) => clip.start_s,
  length: (clip) => (clip.end_s === undefined ? undefined : clip.end_s - clip.start_s),
  person: (clip) => clip.person,
  language: (clip) => clip.language,
  reasons: (clip) => clip.reasons.map((each) => each.reason).join("; "),
  ...Object.fromEntries(scoreNames.map((name) => [name, (clip) => clip.scores[name]])),
};

function compare(a, b) {
  const [x, y] = [columns[sorted.column](a), columns[sorted.column](b)];
  if (x === undefined || x === null || y === undefined || y === null) return (x ?? null) === null ? ((y ?? null) === null ? 0 : 1) : -1;
  const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
  return sorted.down ? -order : order;
}

function visible() {
  const [show, words] = [byId("show").value, byId("find").value.toLowerCase()];
  const holds = (clip) => [clip.key, clip.source, clip.text, clip.person, ...clip.reasons.map((each) => each.reason)].join(" ").toLowerCase().includes(words);
  return clips.filter((clip) => (!show || (show === "kept") === clip.kept) && holds(clip)).sort(compare);
}

function cells(clip) {
  const reasons = clip.reasons.map((each) => make("div", {}, each.reason));
  return [make("td", { class: clip.kept ? "yes" : "no" }, clip.kept ? "kept" : "dropped"), text(clip.source),
    make("td", {}, number(clip.start_s, 2)), make("td", {}, number(columns.length(clip), 2)), short(clip.person ?? "-"),
    make("td", {}, clip.language || "-"), make("td", { class: "reasons" }, ...reasons),
    ...scoreNames.map((name) => make("td", {}, shown(clip.scores[name])))];
}

function draw() {
  const header = make("tr", {}, ...Object.keys(columns).map((name) => {
    const down = sorted.column === name && !sorted.down;
    const cell = make("th", { "data-key": name || "kept", class: TEXTS.includes(name) ? "text" : "", onclick: () => { sorted = { column: name, down }; draw(); } }, name.replace(".", " ") || "kept");
    if (sorted.column === name) cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    return cell;
  }));
  const rows = visible();
  byId("clips").replaceChildren(header, ...rows.flatMap((clip) => {
    const line = make("tr", { class: "row", "data-key": clip.key,
      onclick: () => { opened.has(clip) ? opened.delete(clip) : opened.add(clip); draw(); } }, ...cells(clip));
    if (!opened.has(clip)) return [line];
    clip.card ??= card(clip);
    return [line, make("tr", { class: "detail" }, make("td", { colspan: Object.keys(columns).length }, clip.card))];
  }));
  byId("shown").textContent = `${rows.length} of ${clips.length} rows`;
}

document.querySelector("h1").textContent = data.title;
byId("headline").textContent = `${totals.videos} videos of ${hours(totals.video_hours)}, ${totals.candidates} candidates of ` +
  `${hours(totals.candidate_hours)}, ${totals.kept} kept: ${totals.clips} clips of ${totals.clip_s.toFixed(2)} s, ` +
  `${hours(totals.clip_hours)}, ${totals.kept_persons} of ${totals.persons} persons; ${totals.unreadable} files cannot be read`;
funnel();
stages();
unused();
histograms();
byId("groups").append(group("persons", numbers.persons), group("languages", numbers.languages),
  group("picture sizes", numbers.sizes), group("licences", numbers.licences));
byId("rules").textContent = JSON.stringify(data.rules, null, 1);
byId("show").addEventListener("change", draw);
byId("find").addEventListener("input", draw);
byId("open").addEventListener("click", () => { visible().forEach((clip) => opened.add(clip)); draw(); });
byId("close").addEventListener("click", () => { opened.clear(); draw(); });
clips.slice(0, 1).concat(clips.filter((clip) => !clip.kept).slice(0, 1)).forEach((clip) => opened.add(clip));
draw();
