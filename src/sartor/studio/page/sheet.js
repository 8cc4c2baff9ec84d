// The rows of a blind sheet in the place of a server: answers are kept by the browser and saved as a file that is sent back.
"use strict";

window.sheet = (() => {
  const asked = JSON.parse(document.getElementById("asked").textContent);
  const place = `sartor-${asked.sheet}-${asked.rater}`;
  let trail = restored();
  let since = Date.now();

  function restored() {
    const known = new Set(asked.rows.map((row) => row.key));
    try {
      const kept = JSON.parse(localStorage.getItem(place) || "[]");
      return Array.isArray(kept) ? kept.filter((one) => known.has(one.id)) : [];
    } catch {
      return []; // This browser keeps nothing for files: the answers live until the tab is closed.
    }
  }

  function keep() {
    try {
      localStorage.setItem(place, JSON.stringify(trail));
    } catch {
      // As above.
    }
    since = Date.now();
  }

  function current() {
    const done = new Set(trail.map((one) => one.id));
    return asked.rows.find((row) => !done.has(row.key));
  }

  function state() {
    const row = current();
    const skipped = trail.filter((one) => !one.choice).length;
    const facts = { done: trail.length - skipped, left: asked.rows.length - trail.length, skipped, row: null };
    const more = { where: row && `row ${row.number}`, suggestion: null, votes: [], flagged: false, note: "" };
    return row ? { ...facts, row: { ...row, ...more } } : facts;
  }

  function act(wanted) {
    const row = current();
    if (wanted.action === "undo") {
      if (!trail.pop()) return { error: "there is nothing to take back", state: state() };
    } else if (!row || row.key !== wanted.row) {
      return { error: "another row is on screen by now", state: state() };
    } else {
      const choice = wanted.action === "label" ? wanted.label : "";
      const seconds = Math.round((Date.now() - since) / 10) / 100;
      trail.push({ id: row.key, choice, time: Date.now() / 1000, seconds });
    }
    keep();
    return { state: state() };
  }

  function save() {
    const answers = trail.filter((one) => one.choice);
    const body = JSON.stringify({ sheet: asked.sheet, rater: asked.rater, answers }, null, 1);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([body], { type: "application/json" }));
    link.download = `answers-${asked.rater}.json`;
    link.click();
    const left = asked.rows.length - trail.length;
    const more = left ? ` ${left} are left: open this file again to go on.` : "";
    return { ended: true, said: `Your ${answers.length} answers were saved as ${link.download}. Send that file back.${more}` };
  }

  return async (path, body) => {
    if (path === "/job") return asked.job;
    if (path === "/state") return state();
    return path === "/end" ? save() : act(body);
  };
})();
