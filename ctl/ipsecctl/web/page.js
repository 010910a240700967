// Keeps what is shown up to date. Without this script every page works, and is as old as it is.
"use strict";

// Text of others reaches the page as text, never as markup: textContent, and addresses that are
// encoded here. What replaces the page was escaped by the server, and no script in it would run.

const content = document.getElementById("content");
const gone = document.getElementById("gone");
const MOST_ROWS = 200;
let lastAnswer = new Date();

function answered() {
  lastAnswer = new Date();
  gone.hidden = true;
}

function missed() {
  gone.textContent = "This page does not answer any more. What is shown is of " +
    lastAnswer.toLocaleTimeString() + ".";
  gone.hidden = false;
}

function isInUse() {
  const selection = String(window.getSelection());
  return document.hidden || selection !== "" || content.contains(document.activeElement) &&
    ["INPUT", "BUTTON"].includes(document.activeElement.tagName);
}

async function lookAgain() {
  if (isInUse()) return;
  try {
    const answer = await fetch(location.href, {cache: "no-store", redirect: "error"});
    if (!(answer.headers.get("Content-Type") || "").startsWith("text/html")) throw new Error();
    const read = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = read.getElementById("content");
    answered();
    if (!isInUse()) content.replaceChildren(...fresh.childNodes);
  } catch {
    missed();
  }
}

function cell(label, ...parts) {
  const made = document.createElement("td");
  made.dataset.label = label;
  made.append(...parts);
  return made;
}

function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function row(told) {
  const made = document.createElement("tr");
  const link = document.createElement("a");
  link.href = "explain?packet=" + encodeURIComponent(told.packet);
  link.append(element("code", told.packet));
  const kind = ["block", "audit"].includes(told.action) ? told.action : "other";
  made.append(
    cell("At, UTC", told.at),
    cell("Action", element("span", told.action, "action " + kind)),
    cell("Packet", link, element("div", told.size, "more")),
    cell("Rule", told.rule, element("div", told.policy, "more")),
    cell("Where", told.where),
    cell("Who", told.who),
  );
  return made;
}

function watch(packets) {
  const pause = document.getElementById("pause");
  const summary = document.getElementById("summary");
  const trouble = document.getElementById("trouble");
  let events = null;
  let isPaused = false;
  pause.hidden = false;
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Go on" : "Pause";
  });
  function show(event) {
    const told = JSON.parse(event.data);
    answered();
    trouble.textContent = told.trouble;
    trouble.hidden = told.trouble === "";
    if (told.packets.length || told.whole) {
      const lost = told.lost ? ", " + told.lost.toLocaleString("en") + " of them not told of" : "";
      summary.textContent = told.blocked.toLocaleString("en") +
        " packets were dropped since this is followed" + lost + ".";
    }
    if (isPaused) return;
    const rows = told.packets.slice(-MOST_ROWS).reverse().map((packet) => row(packet));
    if (told.whole) {
      packets.replaceChildren(...rows);
    } else {
      rows.forEach((made) => made.classList.add("new"));
      packets.prepend(...rows);
    }
    while (packets.rows.length > MOST_ROWS) packets.deleteRow(-1);
  }
  // A tab that nobody sees has nothing told; when it is seen again, all that there is comes first.
  function listen() {
    if (events) events.close();
    events = document.hidden ? null : new EventSource(packets.dataset.events);
    if (!events) return;
    events.addEventListener("open", answered);
    events.addEventListener("error", missed);
    events.addEventListener("message", show);
  }
  document.addEventListener("visibilitychange", listen);
  listen();
}

if (content.dataset.seconds) setInterval(lookAgain, 1000 * Number(content.dataset.seconds));
const packets = document.getElementById("packets");
if (packets) watch(packets);
