const { report } = data;
const metrics = Object.keys(report.metrics);

function interval(found) {
  if (!found || found.mean === null) return make("td", {}, "-");
  const range = (found.low === null ? "" : `${number(found.low)} to ${number(found.high)}, `) + `n=${found.n}`;
  return make("td", {}, number(found.mean), make("small", {}, range));
}

function heading(cells) {
  return make("tr", {}, ...cells.map((text) => make("th", { title: report.metrics[text]?.description ?? "" }, text)));
}

function summary() {
  byId("summary").append(heading(["system", ...metrics, "measured"]));
  for (const [name, system] of Object.entries(report.systems)) {
    const cells = metrics.map((metric) => interval(system.metrics[metric]));
    const counts = make("td", {}, `${system.counts.measured} of ${system.counts.rows}`);
    byId("summary").append(make("tr", {}, make("td", {}, name, make("small", {}, system.description)), ...cells, counts));
  }
  for (const [name, system] of Object.entries(report.systems)) {
    const splits = Object.entries(system.splits);
    if (splits.length && !byId("splits").children.length) byId("splits").append(heading(["system, split", ...metrics]));
    for (const [split, found] of splits) {
      const cells = metrics.map((metric) => interval(found[metric]));
      byId("splits").append(make("tr", {}, make("td", {}, `${name}, ${split}`), ...cells));
    }
  }
  const reasons = {};
  for (const [name, found] of Object.entries(report.missing)) (reasons[found.reason] ??= []).push(name);
  for (const [reason, names] of Object.entries(reasons)) {
    byId("missing").append(make("li", {}, make("b", {}, names.join(", ")), ` not computed: ${reason}`));
  }
}

function published() {
  const rows = Object.entries(report.published);
  if (!rows.length) { byId("published").closest("section").remove(); return; }
  const columns = Object.keys(rows[0][1]);
  byId("published").append(heading(["system", ...columns]));
  for (const [name, system] of Object.entries(report.systems)) {
    byId("published").append(make("tr", {}, make("td", {}, name), ...columns.map((column) => interval(system.metrics[column]))));
  }
  for (const [name, row] of rows) {
    const cells = columns.map((column) => make("td", {}, number(row[column])));
    byId("published").append(make("tr", { class: "published" }, make("td", {}, name), ...cells));
  }
}

function comparisons() {
  const table = byId("comparisons");
  if (!report.comparisons.length) { table.closest("section").remove(); return; }
  table.append(heading(["difference", "metric", "mean", "p", "detectable"]));
  for (const found of report.comparisons) {
    table.append(make("tr", {}, make("td", {}, `${found.system} - ${found.against}`), make("td", {}, found.metric),
      interval(found), make("td", {}, number(found.p)), make("td", {}, number(found.detectable))));
  }
}

function about() {
  const list = byId("about");
  const entry = (name, text) => list.append(make("dt", {}, name), make("dd", {}, text));
  for (const [name, found] of Object.entries(report.metrics)) entry(name, `${found.description} (better: ${found.better})`);
  for (const [name, facts] of Object.entries(report.networks)) {
    entry(`network ${name}`, `${facts.source}, ${facts.licence}, sha256 ${facts.sha256}`);
  }
  for (const [name, system] of Object.entries(report.systems)) {
    const settings = Object.entries(system.settings);
    if (settings.length) entry(`system ${name}`, settings.map((pair) => pair.join(" ")).join(", "));
  }
  for (const [name, value] of Object.entries(report.protocol)) entry(name, String(value));
  entry("versions", Object.entries(report.versions).map((pair) => pair.join(" ")).join(", "));
}

function card(clip) {
  const sound = media[clip.sha256];
  const video = player(sound);
  const right = make("div");
  if (sound?.peaks.length) right.append(...waveform(video, sound));
  const curves = Object.entries(clip.details).filter(([name]) => name.startsWith("curve/"));
  if (curves.length) {
    const seconds = sound?.seconds || 1;
    const paths = curves.map(([, curve], index) => make("path", {
      d: line(curve.values, curve.values.length / curve.fps / seconds, Math.min(...curve.values), Math.max(...curve.values)),
      stroke: COLOURS[index % COLOURS.length],
    }));
    right.append(legend(curves.map(([name]) => name.slice(6) + ", each to its own range")), plot(video, seconds, paths));
  }
  for (const [name, pieces] of Object.entries(clip.differences)) {
    const words = pieces.map(([kind, text]) => make({ same: "span", missing: "del", extra: "ins" }[kind], {}, text + " "));
    right.append(make("div", { class: "legend" }, `${name}: `, make("del", {}, "not heard"), " ", make("ins", {}, "heard instead or besides")),
      make("p", { class: "words" }, ...words),
      make("div", { class: "legend" }, `script: ${clip.details["transcript/" + name].script}`),
      make("div", { class: "legend" }, `heard: ${clip.details["transcript/" + name].heard}`));
  }
  const scores = make("table");
  for (const metric of metrics) {
    const reason = clip.not_measured[metric];
    if (clip.scores[metric] === undefined && !reason) continue;
    scores.append(make("tr", {}, make("td", {}, metric), make("td", {}, number(clip.scores[metric], 4)),
      make("td", { class: "why" }, reason ? `not measured: ${reason}` : report.metrics[metric].description)));
  }
  for (const [name, value] of Object.entries(clip.details)) {
    if (name.includes("/")) continue;
    scores.append(make("tr", {}, make("td", {}, name), make("td"), make("td", { class: "why" }, JSON.stringify(value))));
  }
  right.append(scores);
  if (clip.problem) right.append(make("p", { class: "problem" }, clip.problem));
  // A player without a source would wait for one for ever.
  const left = make("div", {}, ...(sound ? [video] : []), make("p", {}, `${clip.system} / ${clip.file || clip.id}`));
  return make("div", { class: "card" }, left, right);
}

const clips = Object.entries(report.systems).flatMap(([system, found]) => found.clips.map((clip) => ({ ...clip, system })));
const opened = new Set();
const worth = (name) => report.metrics[name].better !== "neither" && clips.some((clip) => name in clip.scores);
let sorted = { key: metrics.find(worth) ?? "id", worst: true };

function compare(a, b) {
  const { key, worst } = sorted;
  if (!metrics.includes(key)) return (worst ? 1 : -1) * String(a[key]).localeCompare(String(b[key]), "en", { numeric: true });
  if (Boolean(a.problem) !== Boolean(b.problem)) return a.problem ? -1 : 1;
  const [x, y] = [a.scores[key], b.scores[key]];
  if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
  const sign = report.metrics[key].better === "lower" ? -1 : 1;
  return (worst ? sign : -sign) * (x - y);
}

function visible() {
  const [system, text] = [byId("system").value, byId("find").value.toLowerCase()];
  const holds = (clip) => `${clip.id} ${clip.split} ${clip.problem} ${JSON.stringify(clip.differences)}`.toLowerCase().includes(text);
  return clips.filter((clip) => (!system || clip.system === system) && holds(clip)).sort(compare);
}

function draw() {
  const columns = ["system", "id", "split", ...metrics];
  const head = make("tr", {}, ...columns.map((name) => {
    const text = name === "id" || name === "split" ? "text" : "";
    const cell = make("th", { title: report.metrics[name]?.description ?? "", "data-key": name, class: text,
      onclick: () => { sorted = { key: name, worst: sorted.key === name ? !sorted.worst : true }; draw(); } }, name);
    if (sorted.key === name) {
      const lowFirst = (report.metrics[name]?.better === "lower") !== sorted.worst;
      cell.setAttribute("aria-sort", lowFirst ? "ascending" : "descending");
    }
    return cell;
  }));
  const rows = visible();
  const body = rows.flatMap((clip) => {
    const scores = clip.problem
      ? [make("td", { class: "problem", colspan: metrics.length }, clip.problem)]
      : metrics.map((metric) => make("td", { title: clip.not_measured[metric] ?? "" }, number(clip.scores[metric])));
    const row = make("tr", { class: "row", "data-id": clip.id,
      onclick: () => { opened.has(clip) ? opened.delete(clip) : opened.add(clip); draw(); } },
      make("td", {}, clip.system), make("td", { class: "text" }, clip.id), make("td", { class: "text" }, clip.split), ...scores);
    if (!opened.has(clip)) return [row];
    clip.card ??= card(clip);
    return [row, make("tr", { class: "detail" }, make("td", { colspan: columns.length }, clip.card))];
  });
  byId("clips").replaceChildren(head, ...body);
  byId("shown").textContent = `${rows.length} of ${clips.length} rows`;
}

document.querySelector("h1").textContent = report.title;
const problems = clips.filter((clip) => clip.problem).length;
byId("counts").textContent = `${clips.length - problems} clips, ${problems} rows with a problem`;
byId("system").append(make("option", { value: "" }, "all"), ...Object.keys(report.systems).map((name) => make("option", { value: name }, name)));
byId("system").addEventListener("change", draw);
byId("find").addEventListener("input", draw);
byId("open").addEventListener("click", () => { visible().forEach((clip) => opened.add(clip)); draw(); });
byId("close").addEventListener("click", () => { opened.clear(); draw(); });
summary();
published();
comparisons();
about();
visible().filter((clip) => !clip.problem).slice(0, 2).forEach((clip) => opened.add(clip));
draw();
