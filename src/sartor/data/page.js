
"use strict";
const body = JSON.parse(document.getElementById("body").textContent);
const page = document.getElementById("page");
const PER_PAGE = 8;

const number = (value) => Number(value).toLocaleString("en-US", { maximumFractionDigits: 1 });
const percent = (part, whole) => (whole ? number((100 * part) / whole) + " %" : "");
/* Characters that would change how the page reads are written out. */
const shown = (text) => String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
  (found) => "\\u" + found.codePointAt(0).toString(16).padStart(4, "0"));

function h(tag, options, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options || {})) {
    if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) if (child !== null && child !== undefined) made.append(child.nodeType ? child : shown(child));
  return made;
}

function s(tag, options, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(options)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = shown(text);
  return made;
}

function section(id, title, ...children) {
  const made = h("section", { id }, h("h2", {}, title), ...children);
  page.append(made);
  nav.append(h("a", { href: "#" + id }, title));
  return made;
}

const card = (title, ...children) => h("div", { class: "card" }, title && h("h3", {}, title), ...children);

function histogram(title, data) {
  const width = 340, height = 150, left = 6, right = 6, top = 16, bottom = 22;
  const drawn = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  const most = Math.max(...data.counts), inner = width - left - right, step = inner / data.counts.length;
  const y = (count) => (height - top - bottom) * (count / most);
  data.counts.forEach((count, at) => {
    const tall = count ? Math.max(1.5, y(count)) : 0;
    const bar = s("rect", { class: "bar", rx: 1.5, x: left + at * step + 0.75, width: Math.max(1, step - 1.5), y: height - bottom - tall, height: tall });
    bar.append(s("title", {}, `${number(data.edges[at])} to ${number(data.edges[at + 1])} ${data.unit}: ${number(count)} rows`));
    drawn.append(bar);
  });
  drawn.append(s("line", { class: "base", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  let at = data.counts.length - 1;
  for (let bar = 0; bar < data.counts.length; bar++) if (data.median >= data.edges[bar] && data.median < data.edges[bar + 1]) { at = bar; break; }
  const span = data.edges[at + 1] - data.edges[at] || 1;
  const x = left + step * (at + Math.min(1, (data.median - data.edges[at]) / span));
  drawn.append(s("line", { class: "median", x1: x, x2: x, y1: top - 4, y2: height - bottom }));
  drawn.append(s("text", { x: Math.min(Math.max(x, 40), width - 40), y: 10, "text-anchor": "middle" }, `median ${number(data.median)}`));
  drawn.append(s("text", { x: left, y: height - 6 }, number(data.smallest)));
  drawn.append(s("text", { x: width - right, y: height - 6, "text-anchor": "end" }, `${number(data.largest)} ${data.unit}`));
  return card(title, drawn, h("p", { class: "soft small" }, `95 % have at most ${number(data.p95)} ${data.unit}; ${number(data.mean)} on average`));
}

function ranking(entries, whole, most) {
  const top = Math.max(...entries.map((entry) => entry[1]), 1), made = h("div", { class: "rank" });
  for (const [name, count] of entries.slice(0, most)) {
    const inner = h("i", {});
    inner.style.width = (100 * count) / top + "%";
    made.append(h("span", { title: name }, name), h("div", { class: "track" }, inner), h("span", { class: "number" }, percent(count, whole)));
  }
  return made;
}

/* Head */
const nav = h("nav", { "aria-label": "Sections" });
const levels = { error: 0, warning: 0, info: 0 };
body.findings.forEach((finding) => levels[finding.level]++);
const profiles = body.profiles, records = body.files.reduce((sum, file) => sum + file.records, 0);
const tile = (value, name, kind) => h("div", { class: "tile " + (kind || "") }, h("b", {}, value), h("span", {}, name));
page.append(
  h("h1", {}, "Data report"),
  h("p", { class: "soft" }, body.files.map((file) => `${file.path} (${file.format || "no known format"}, ${number(file.records)} records)`).join(" · ")),
  h("div", { class: "tiles" },
    tile(number(records), "records"),
    tile(number(levels.error), levels.error === 1 ? "error" : "errors", levels.error ? "error" : "good"),
    tile(number(levels.warning), levels.warning === 1 ? "warning" : "warnings", levels.warning ? "warning" : "good"),
    profiles.map((profile) => [
      tile(number(profile.copies.rows), "copies of other rows", profile.copies.rows ? "warning" : "good"),
      profile.labels.length ? tile(number(profile.labels.length), "labels" + (profile.other_labels ? " and more" : "")) : null,
      profile.topics.length ? tile(number(profile.topics.length), "topics") : null,
    ])),
  nav);

/* Findings */
let wanted = null;
{
  const search = h("input", { type: "search", placeholder: "Filter findings", "aria-label": "Filter findings" });
  const rows = h("tbody", {}), buttons = {};
  let level = "all";
  const draw = () => {
    rows.replaceChildren();
    const text = search.value.toLowerCase();
    const kept = body.findings.filter((finding) => (level === "all" || finding.level === level)
      && [finding.code, finding.message, finding.file, finding.fix].join(" ").toLowerCase().includes(text));
    for (const finding of kept) {
      const where = finding.file === null ? "" : finding.file + (finding.line === null ? "" : ":" + finding.line);
      rows.append(h("tr", {},
        h("td", { class: "tight" }, h("span", { class: "badge " + finding.level }, finding.level)),
        h("td", { class: "tight" }, h("code", {}, finding.code)),
        h("td", {}, h("div", {}, finding.message), finding.fix ? h("div", { class: "soft small" }, finding.fix) : null),
        h("td", {}, finding.held ? h("button", { class: "link where", title: "Show these rows", on: { click: () => show(finding) } }, where) : h("span", { class: "where" }, where)),
        h("td", { class: "number tight" }, finding.line === null ? "" : number(1 + finding.rows.length))));
    }
    if (!kept.length) rows.append(h("tr", {}, h("td", { colspan: 5, class: "soft" }, body.findings.length ? "No finding matches." : "Nothing was found.")));
    for (const [name, button] of Object.entries(buttons)) button.setAttribute("aria-pressed", String(name === level));
  };
  for (const name of ["all", ...Object.keys(levels).filter((each) => levels[each])]) {
    buttons[name] = h("button", { on: { click: () => { level = name; draw(); } } }, name === "all" ? "all" : `${name} ${levels[name]}`);
  }
  search.addEventListener("input", draw);
  section("findings", "Findings",
    h("div", { class: "tools" }, Object.values(buttons), search),
    h("div", { class: "card wide" }, h("table", {}, h("thead", {}, h("tr", {}, ["level", "code", "what", "where", "rows"].map((name) => h("th", {}, name)))), rows)));
  draw();
}

/* Distributions */
profiles.forEach((profile, at) => {
  const suffix = profiles.length > 1 ? ` (${at + 1})` : "";
  const cards = Object.entries(profile.lengths).filter(([name]) => !(profile.labels.length && name === "answer")).map(([name, data]) => histogram(`Length of the ${name}`.replace("of the tokens", "of a row in tokens"), data));
  if (profile.labels.length) {
    const labelled = profile.labels.reduce((sum, label) => sum + label[1], profile.other_labels);
    const more = profile.labels.length - 12;
    cards.push(card("Labels", ranking(profile.labels, labelled, 12), more > 0 ? h("p", { class: "soft small" }, `and ${number(more)} more, the rarest with ${number(profile.labels.at(-1)[1])} rows`) : null));
  }
  const languages = Object.entries(profile.languages).map(([whose, counts]) => [whose, Object.entries(counts).map(([code, count]) => [code ? body.languages[code] || code : "too short to tell", count])]);
  for (const [whose, counts] of languages) cards.push(card(`Language of the ${whose}`, ranking(counts, profile.sampled, 8)));
  const quality = Object.entries(profile.quality);
  if (quality.length) cards.push(card("Faults of texts", ranking(quality, profile.rows, 8)));
  const parts = Object.entries(profile.parts).filter((part) => part[1]);
  if (parts.length > 1) cards.push(card("Parts", ranking(parts, profile.rows, 4)));
  const variety = (profile.labels.length ? [] : Object.entries(profile.variety)).map(([name, share]) => [{ distinct_1: "words", distinct_2: "pairs of words", distinct_3: "runs of three words" }[name], share]);
  if (variety.length) cards.push(card("Variety of the answers", ranking(variety, 1, 3), h("p", { class: "soft small" }, "different ones among all (distinct-n)")));
  if (profile.difficulty) {
    const told = profile.difficulty;
    cards.push(histogram("Difficulty (IFD)", told.histogram));
    if (told.hardest.length) cards.push(card("Where the prompt helps least", told.hardest.slice(0, 6).map((row) => h("p", { class: "small" }, h("b", {}, row.ifd.toFixed(2) + " "), row.text, h("br", {}), h("span", { class: "where" }, row.where)))));
  }
  section("distributions" + (at || ""), "Distributions" + suffix, h("div", { class: "grid" }, cards), h("p", { class: "soft small" }, profile.sampled < profile.rows ? `Lengths, labels and faults of all ${number(profile.rows)} rows; the rest of a fixed sample of ${number(profile.sampled)} rows.` : `Of all ${number(profile.rows)} rows.`));
  if (profile.topics.length) {
    section("topics" + (at || ""), "Topics" + suffix, h("div", { class: "grid" }, profile.topics.map((topic) => h("div", { class: "card" },
      h("div", { class: "spread" }, h("h3", {}, topic.words.join(" · ")), h("span", { class: "soft small" }, percent(topic.rows, profile.sampled))),
      topic.examples.map((row) => h("p", { class: "small soft" }, row.text))))));
  }
  if (profile.copies.groups) {
    section("copies" + (at || ""), "Copies" + suffix,
      h("p", { class: "soft" }, `${number(profile.copies.rows)} rows are equal or nearly equal to an earlier one, in ${number(profile.copies.groups)} groups${profile.copies.largest.length < profile.copies.groups ? `; the ${number(profile.copies.largest.length)} largest are shown` : ""}.`),
      h("div", { class: "card" }, profile.copies.largest.map((group) => h("details", {}, h("summary", {}, h("b", {}, number(group.size) + " rows  "), group.rows[0].text.slice(0, 110)),
        group.rows.map((row) => h("p", { class: "small" }, row.text, h("br", {}), h("span", { class: "where" }, row.where))),
        group.size > group.rows.length ? h("p", { class: "soft small" }, `and ${number(group.size - group.rows.length)} more`) : null))));
  }
  if (profile.suspects.length) {
    section("labels" + (at || ""), "Doubtful labels" + suffix,
      h("p", { class: "soft" }, `A model of the other rows guesses ${percent(profile.label_accuracy, 1)} of the labels. These rows read most like another label; marked ones pass the test of confident learning.`),
      h("div", { class: "card wide" }, h("table", {}, h("thead", {}, h("tr", {}, ["text", "label", "reads like", "where"].map((name) => h("th", {}, name)))),
        h("tbody", {}, profile.suspects.map((row) => h("tr", {}, h("td", {}, row.text),
          h("td", {}, row.label, h("div", { class: "soft small" }, row.probability.toFixed(2))),
          h("td", {}, row.other, " ", row.suspected ? h("span", { class: "badge warning" }, "doubtful") : null, h("div", { class: "soft small" }, row.other_probability.toFixed(2))),
          h("td", {}, h("span", { class: "where" }, row.where))))))));
  }
});

/* Leaks */
if (body.leaks.length || body.likeness.length) {
  section("leaks", "Leaks", body.likeness.map((line) => h("p", { class: "soft" }, line)),
    body.leaks.map((leak) => h("div", { class: "card row" }, h("h3", {}, leak.what), h("div", { class: "pair" },
      leak.sides.map((side) => h("div", {}, h("span", { class: "where" }, side.where), h("p", { class: "text" }, side.text)))))));
}

/* Rows */
const view = h("div", {}), count = h("span", { class: "soft small" }), cause = h("span", { class: "small" });
const find = h("input", { type: "search", placeholder: "Search in rows", "aria-label": "Search in rows" });
const part = h("select", { "aria-label": "Part" }, h("option", { value: "" }, "all parts"), [...new Set(body.rows.map((row) => row.part))].filter(Boolean).map((name) => h("option", { value: name }, name)));
const back = h("button", { on: { click: () => { first -= PER_PAGE; drawRows(); } } }, "previous");
const next = h("button", { on: { click: () => { first += PER_PAGE; drawRows(); } } }, "next");
let first = 0;

function drawRows() {
  const text = find.value.toLowerCase();
  const kept = body.rows.filter((row) => (!part.value || row.part === part.value)
    && (!wanted || wanted.held.includes(row.where)) && (row.prompt + " " + row.answer + " " + row.where).toLowerCase().includes(text));
  first = Math.max(0, Math.min(first, Math.floor((kept.length - 1) / PER_PAGE) * PER_PAGE));
  view.replaceChildren(...kept.slice(first, first + PER_PAGE).map((row) => h("article", { class: "card row" },
    h("div", { class: "spread" }, h("span", { class: "where" }, row.where), h("span", { class: "soft small" }, [row.part, row.label, row.tokens ? `${number(row.tokens)} tokens, ${number(row.learnt)} learnt` : ""].filter(Boolean).join(" · "))),
    row.problem ? h("p", { class: "small" }, h("span", { class: "badge error" }, "refused"), " ", row.problem) : null,
    row.pieces
      ? h("div", { class: "text mask" }, row.pieces.map((piece) => h("span", { class: [piece[1] ? "learnt" : "", piece[2] ? "control" : ""].join(" ").trim() || null, title: `weight ${piece[1]}` }, piece[0])))
      : [row.prompt ? h("div", { class: "text ask" }, row.prompt) : null, row.answer ? h("div", { class: "text say" }, row.answer) : null])));
  if (!kept.length) view.append(h("p", { class: "soft" }, "No row of this page matches."));
  count.textContent = kept.length ? `${number(first + 1)} to ${number(Math.min(first + PER_PAGE, kept.length))} of ${number(kept.length)}` : "";
  back.disabled = first === 0;
  next.disabled = first + PER_PAGE >= kept.length;
  cause.replaceChildren(...(wanted ? [h("b", {}, wanted.code + " "), wanted.message.slice(0, 90) + " ", h("button", { on: { click: () => { wanted = null; drawRows(); } } }, "show all")] : []));
}

function show(finding) {
  wanted = finding;
  first = 0;
  find.value = part.value = "";
  drawRows();
  document.getElementById("rows").scrollIntoView();
}

find.addEventListener("input", () => { first = 0; drawRows(); });
part.addEventListener("change", () => { first = 0; drawRows(); });
if (body.rows.length) {
  const coloured = body.rows.some((row) => row.pieces);
  section("rows", "Rows",
    h("p", { class: "soft" }, `${number(body.rows.length)} of ${number(body.all_rows)} rows: those that findings name, and a fixed sample.`, coloured ? [" As the model sees them: ", h("span", { class: "learnt" }, "learnt"), ", given, ", h("span", { class: "control" }, "control token"), "."] : null),
    h("div", { class: "tools" }, find, part, back, next, count), cause, view);
  drawRows();
}
