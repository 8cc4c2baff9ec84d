// Ends the server from the page on which raters choose their name.
"use strict";

const token = new URLSearchParams(location.search).get("token") || "";

async function end() {
  const headers = { "X-Sartor-Token": token, "Content-Type": "application/json" };
  try {
    await fetch("/end", { method: "POST", headers, body: "{}" });
  } catch {
    // The server is gone already, which is what was wanted.
  }
  const said = document.createElement("h1");
  said.textContent = "Ended. All answers are saved; this tab can be closed.";
  document.querySelector("main").replaceChildren(said);
}

document.getElementById("end").addEventListener("click", end);
document.addEventListener("keydown", (event) => {
  if (event.key === "q" && !event.ctrlKey && !event.metaKey && !event.altKey) end();
});
