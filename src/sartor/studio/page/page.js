// Labels and ranks by keyboard. Whatever comes from the data is shown by textContent, never as HTML.
"use strict";

const token = new URLSearchParams(location.search).get("token") || "";
const at = (id) => document.getElementById(id);
let job = null;
let state = null;
let busy = false;
let over = false;
let levels = [];
let tied = false;

function made(name, text, className) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

// A sheet that was sent to a rater (sheet.js) answers in the place of the server.
async function ask(path, body) {
  if (window.sheet) return window.sheet(path, body);
  const options = { headers: { "X-Sartor-Token": token } };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(document.documentElement.dataset.root + path, options);
  const type = response.headers.get("content-type") || "";
  return type.startsWith("application/json") ? response.json() : { error: await response.text() };
}

async function act(action, more) {
  if (busy || over || (!state.row && action !== "undo")) return;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    const answer = await ask("/act", { row: state.row ? state.row.key : "", action, ...more });
    say(answer.error || "");
    if (answer.state) show(answer.state);
  } catch {
    say("The server does not answer. What was answered is saved; start the command again, and open its new address.");
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

function say(text) {
  at("message").textContent = text;
  at("message").hidden = !text;
}

function show(next) {
  const before = state && state.row ? state.row.key : null;
  state = next;
  const row = state.row;
  if (!row || row.key !== before) {
    levels = [];
    tied = false;
    scrollTo(0, 0);
  }
  const all = state.done + state.left;
  at("full").style.width = all ? `${(100 * state.done) / all}%` : "0";
  at("full").parentElement.setAttribute("aria-valuemax", all);
  at("full").parentElement.setAttribute("aria-valuenow", state.done);
  at("who").textContent = job.annotator;
  const skipped = state.skipped ? `   ${state.skipped} skipped` : "";
  at("counts").textContent = `${state.done} done   ${state.left} left${skipped}`;
  at("where").textContent = row ? row.where : "";
  at("flagged").hidden = !(row && row.flagged);
  at("work").hidden = !row;
  at("finished").hidden = Boolean(row);
  close();
  if (!row) {
    at("end").textContent = "Nothing is left to ask";
    at("ending").textContent = "u takes the last answer back, q ends.";
    return;
  }
  at("turns").replaceChildren(...row.turns.map(turn));
  at("turns").classList.toggle("chat", row.turns.length > 1);
  at("votes").replaceChildren(...row.votes.map((vote) => made("span", `${vote.annotator}: ${vote.label}`)));
  at("votes").hidden = !row.votes.length;
  at("noted").textContent = row.note ? `Note: ${row.note}` : "";
  at("noted").hidden = !row.note;
  at("question").textContent = row.question;
  at("question").hidden = !row.question;
  if (job.kind !== "label") showAnswers(row);
  else {
    showLabels(row);
    compare(row.answers);
  }
}

// Answers that are judged by a label: two beside each other as A and B, or one.
function compare(answers) {
  at("answers").hidden = !answers.length;
  at("answers").className = answers.length ? "compared" : "";
  at("answers").replaceChildren(
    ...answers.map((text, place) => {
      const item = made("li");
      item.append(made("b", answers.length > 1 ? "AB"[place] : "answer", "role"), made("span", text || "(empty)"));
      return item;
    })
  );
}

function turn(said) {
  const block = made("div", undefined, "turn");
  if (said.role) block.append(made("span", said.role, "role"));
  block.append(made("span", said.text));
  return block;
}

function showLabels(row) {
  const suggested = row.suggestion ? row.suggestion.label : null;
  at("labels").replaceChildren(
    ...job.labels.map((label) => {
      const button = made("button", undefined, label.name === suggested ? "suggested" : "");
      button.type = "button";
      if (label.key) button.append(made("kbd", label.key));
      button.append(made("span", label.shown));
      button.addEventListener("click", () => act("label", { label: label.name }));
      return button;
    })
  );
  at("labels").classList.toggle("many", job.labels.length > 12);
  at("suggestion").hidden = !suggested;
  if (suggested) {
    const shown = job.labels.find((label) => label.name === suggested).shown;
    const sure = `, ${Math.round(100 * row.suggestion.probability)} % sure   `;
    at("suggestion").replaceChildren("The model says ", made("b", shown), sure, made("kbd", "Enter"), " takes it");
  }
}

function showAnswers(row) {
  const placed = new Set(levels.flat());
  at("answers").hidden = false;
  at("answers").replaceChildren(
    ...row.answers.map((text, place) => {
      const item = made("li", undefined, placed.has(place) ? "placed" : "");
      item.append(made("kbd", String(place + 1)), made("span", text || "(empty)"));
      item.addEventListener("click", () => put(place));
      return item;
    })
  );
  const parts = ["Worst first"];
  levels.forEach((level, number) => {
    if (number) parts.push("<");
    parts.push(made("b", level.map((place) => place + 1).join(" = ") + (tied && number === levels.length - 1 ? " =" : "")));
  });
  if (placed.size === row.answers.length) parts.push(made("kbd", "Enter"), "keeps this order");
  at("order").hidden = false;
  at("order").replaceChildren(...parts);
}

function put(place) {
  if (place >= state.row.answers.length || levels.flat().includes(place)) return;
  if (tied) levels[levels.length - 1].push(place);
  else levels.push([place]);
  tied = false;
  showAnswers(state.row);
}

function back() {
  if (!levels.length) return;
  levels[levels.length - 1].pop();
  if (!levels[levels.length - 1].length) levels.pop();
  tied = false;
  showAnswers(state.row);
}

function close() {
  at("find").hidden = at("noting").hidden = true;
  narrow("");
  if (document.activeElement && document.activeElement.blur) document.activeElement.blur();
}

function openNote() {
  if (!state.row) return;
  at("noting").hidden = false;
  at("note").value = state.row.note;
  at("note").focus();
}

function openFind() {
  if (!state.row || job.kind !== "label") return;
  at("find").hidden = false;
  at("find").value = "";
  at("find").focus();
}

function narrow(typed) {
  const hits = new Set(typed.trim() ? matching(typed) : job.labels);
  [...at("labels").children].forEach((button, place) => {
    button.hidden = !hits.has(job.labels[place]);
  });
}

function matching(typed) {
  const wanted = typed.trim().toLowerCase();
  if (!wanted) return [];
  const tests = [(name) => name === wanted, (name) => name.startsWith(wanted), (name) => name.includes(wanted)];
  for (const test of tests) {
    const hits = job.labels.filter((label) => test(label.name.toLowerCase()));
    if (hits.length) return hits;
  }
  return [];
}

function choose(typed) {
  const hits = matching(typed);
  if (hits.length === 1) act("label", { label: hits[0].name });
  else say(hits.length ? `${hits.length} labels match: ${hits.slice(0, 8).map((label) => label.shown).join(", ")}` : "No label matches.");
}

async function end() {
  over = true;
  let ended = {};
  try {
    ended = await ask("/end", {});
  } catch {
    // The server is gone already, which is what was wanted.
  }
  if (ended.after) {
    location.assign(ended.after);
    return;
  }
  at("work").hidden = true;
  at("finished").hidden = false;
  at("end").textContent = "Ended";
  at("ending").textContent = ended.said || "All answers are saved. The same command goes on from here; this tab can be closed.";
  at("hints").replaceChildren();
}

const commands = {
  s: ["skip", () => act("skip")],
  u: ["undo", () => act("undo")],
  n: ["note", openNote],
  f: ["flag", () => act("flag")],
  g: ["guidelines", () => guided(at("guide").hidden)],
  q: ["end", end],
};

function guided(visible) {
  at("guide").hidden = !visible || !job.guidelines.length;
  at("main").classList.toggle("guided", !at("guide").hidden);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !job || over) return;
  if (event.target.tagName === "INPUT") {
    if (event.key === "Escape") close();
    else if (event.key !== "Enter") return;
    else if (event.target.id === "note") act("note", { note: at("note").value });
    else choose(at("find").value);
    event.preventDefault();
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "Enter" && event.target.tagName === "BUTTON") return;
  if (commands[key]) commands[key][1]();
  else if (!state.row) return;
  else if (job.kind === "rank") {
    if (key === "=") {
      tied = levels.length > 0 && levels.flat().length < state.row.answers.length && !tied;
      showAnswers(state.row);
    } else if (key === "Backspace") back();
    else if (key === "Enter" && levels.flat().length === state.row.answers.length) act("rank", { order: levels });
    else if (key >= "1" && key <= "9") put(Number(key) - 1);
    else return;
  } else if (key === "/") openFind();
  else if (key === "Enter") {
    if (state.row.suggestion) act("label", { label: state.row.suggestion.label });
  } else {
    const label = job.labels.find((one) => one.key === key);
    if (!label) return;
    act("label", { label: label.name });
  }
  event.preventDefault();
}

function hint(key, name, run) {
  const button = made("button");
  button.type = "button";
  button.append(made("kbd", key), made("span", name));
  button.addEventListener("click", run);
  return button;
}

function block(one) {
  if (one.kind === "heading") return made(one.level < 3 ? "h2" : "h3", one.text);
  if (one.kind === "code") return made("pre", one.text);
  return one.kind === "item" ? made("p", `\u2022 ${one.text}`, "item") : made("p", one.text);
}

async function begin() {
  job = await ask("/job");
  if (job.error) {
    say(job.error);
    return;
  }
  at("guide").replaceChildren(...job.guidelines.map(block));
  guided(true);
  for (const key of job.without || []) delete commands[key];
  const known = Object.entries(commands).filter(([key]) => key !== "g" || job.guidelines.length);
  const hints = known.map(([key, [name, run]]) => hint(key, name, run));
  if (job.kind === "rank") hints.unshift(hint("1-9", "next better", () => {}), hint("=", "as good as the last", () => {}), hint("\u232b", "take back", back));
  else if (job.labels.some((label) => !label.key)) hints.unshift(hint("/", "find a label", openFind));
  at("hints").replaceChildren(...hints);
  show(await ask("/state"));
  at("find").addEventListener("input", () => narrow(at("find").value));
  document.addEventListener("keydown", pressed);
}

begin();
