// The pairs and questions of the page in, labels out: kept in this browser as they are given, saved as CSV when asked for.
// Every text goes in as text, never as markup. Nothing is sent anywhere: the page's policy forbids it.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const ANSWERS = ["yes", "no", "unsure"];
const PSEUDONYM = /^[a-z0-9][a-z0-9-]{2,31}$/;
const store = `laion-dask-audit:${data.sample}`;
const byId = (id) => document.getElementById(id);

function freshName() {
  const bytes = crypto.getRandomValues(new Uint8Array(4));
  return "labeler-" + [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function remembered() {
  try {
    const found = JSON.parse(localStorage.getItem(store));
    if (found && PSEUDONYM.test(found.labeler) && found.answers) return found;
  } catch { /* a private window, or somebody else's value: begin anew */ }
  return null;
}

const state = remembered() || { labeler: freshName(), at: 0, answers: {} };
let question = 0;

function remember() {
  try {
    localStorage.setItem(store, JSON.stringify(state));
    byId("kept").textContent = "kept in this browser";
  } catch {
    byId("kept").textContent = "this browser keeps nothing: save the CSV before you close the page";
  }
}

const mine = () => (state.answers[state.labeler] ||= {});
const given = (uid) => mine()[uid] || {};
const done = (pair) => data.questions.every((one) => given(pair.uid)[one.name]);
const at = () => data.pairs[state.at];

function firstOpen() {
  const open = data.questions.findIndex((one) => !given(at().uid)[one.name]);
  return open < 0 ? 0 : open;
}

function go(step) {
  state.at = Math.min(data.pairs.length - 1, Math.max(0, state.at + step));
  question = firstOpen();
  byId("frame").classList.remove("shown");
  remember();
  show();
}

function answer(value) {
  const pair = at();
  const name = data.questions[question].name;
  (mine()[pair.uid] ||= {})[name] = [value, new Date().toISOString().replace(/\.\d+Z$/, "Z")];
  remember();
  if (!done(pair)) question = firstOpen();
  else if (state.at < data.pairs.length - 1) return go(1);
  show();
}

function reveal() {
  byId("frame").classList.toggle("shown");
  show();
}

function csv() {
  const lines = ["sample,uid,question,answer,labeler,time"];
  for (const [labeler, answers] of Object.entries(state.answers))
    for (const pair of data.pairs)
      for (const one of data.questions) {
        const found = answers[pair.uid]?.[one.name];
        if (found) lines.push([data.sample, pair.uid, one.name, found[0], labeler, found[1]].join(","));
      }
  return lines.join("\n") + "\n";
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = `labels-${data.sample}-${state.labeler}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function show() {
  const pair = at();
  byId("picture").src = pair.image;
  byId("caption").textContent = pair.caption;
  const count = data.pairs.filter(done).length;
  byId("place").textContent = `pair ${state.at + 1} of ${data.pairs.length}`;
  byId("count").textContent = `${count} done`;
  byId("bar").value = count;
  byId("bar").max = data.pairs.length;
  const shown = byId("frame").classList.contains("shown");
  byId("reveal").textContent = shown ? "Blur the picture" : "Show the picture";
  byId("reveal").setAttribute("aria-pressed", String(shown));
  for (const [place, box] of [...document.querySelectorAll("#questions li")].entries()) {
    const found = given(pair.uid)[data.questions[place].name];
    box.classList.toggle("current", place === question);
    for (const button of box.querySelectorAll("button"))
      button.setAttribute("aria-pressed", String(Boolean(found) && found[0] === button.dataset.answer));
  }
}

function build() {
  for (const [place, one] of data.questions.entries()) {
    const box = document.createElement("li");
    const ask = document.createElement("p");
    ask.textContent = one.ask;
    box.append(ask);
    for (const value of ANSWERS) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.answer = value;
      button.textContent = value;
      button.addEventListener("click", () => { question = place; answer(value); });
      box.append(button);
    }
    byId("questions").append(box);
  }
  byId("labeler").value = state.labeler;
  byId("labeler").addEventListener("change", (event) => {
    const name = event.target.value.trim().toLowerCase();
    if (PSEUDONYM.test(name)) state.labeler = name;
    event.target.value = state.labeler;
    state.at = Math.max(0, data.pairs.findIndex((pair) => !done(pair)));
    go(0);
  });
  byId("back").addEventListener("click", () => go(-1));
  byId("next").addEventListener("click", () => go(1));
  byId("reveal").addEventListener("click", reveal);
  byId("save").addEventListener("click", save);
}

const KEYS = {
  y: () => answer("yes"), n: () => answer("no"), u: () => answer("unsure"), " ": reveal, b: reveal, s: save,
  ArrowRight: () => go(1), ArrowLeft: () => go(-1), k: () => go(1), j: () => go(-1),
};
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
  const digit = Number(event.key);
  if (digit >= 1 && digit <= data.questions.length) {
    question = digit - 1;
    show();
  } else if (Object.hasOwn(KEYS, event.key)) {
    event.preventDefault();
    KEYS[event.key]();
  }
});

build();
state.at = Math.min(Math.max(0, Math.trunc(state.at) || 0), data.pairs.length - 1);
go(0);
