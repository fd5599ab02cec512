
const test = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/* Random order: the same for the same test and listener (FNV-1a into mulberry32). */
function randomOf(text) {
  let state = 0x811c9dc5;
  for (const unit of text) state = Math.imul(state ^ unit.codePointAt(0), 0x01000193);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function shuffled(list, random) {
  const result = [...list];
  for (let last = result.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [result[last], result[other]] = [result[other], result[last]];
  }
  return result;
}

/* Each kind of test: what is shown, which keys work, what is missing. `answer` is what is kept. */
const mushra = {
  missing: (answer) => {
    const index = answer.order.findIndex((id) => !(id in answer.ratings) || !answer.heard.includes(id));
    if (index < 0) return "";
    return answer.order[index] in answer.ratings ? `Hear version ${index + 1} first.` : `Version ${index + 1} has no rating yet.`;
  },
  build(answer, place) {
    const words = ["Bad", "Poor", "Fair", "Good", "Excellent"].map((word) => make("span", { textContent: word }));
    place.append(soundButton("reference", "Reference", "R", "reference"));
    place.append(make("div", { className: "row" }, make("span"), make("div", { className: "scale" }, ...words)));
    answer.order.forEach((id, index) => {
      const slider = make("input", { type: "range", min: 0, max: 100, value: answer.ratings[id] ?? 50 });
      slider.setAttribute("aria-label", `Rating of version ${index + 1}`);
      slider.oninput = () => this.rate(answer, id, Number(slider.value));
      slider.onfocus = () => { if (player.selected !== id) hear(id); };
      const row = make("div", { className: "row" }, soundButton(id, `${index + 1}`), slider, make("output"));
      row.dataset.row = id;
      place.append(row);
    });
  },
  refresh(answer) {
    for (const row of document.querySelectorAll("[data-row]")) {
      const rating = answer.ratings[row.dataset.row];
      row.classList.toggle("unrated", rating === undefined);
      row.classList.toggle("selected", row.dataset.row === player.selected);
      row.querySelector("input").value = rating ?? 50;
      row.querySelector("output").textContent = rating ?? "–";
    }
  },
  rate(answer, id, value) {
    answer.ratings[id] = Math.min(100, Math.max(0, value));
    changed();
  },
  focus(id) { document.querySelector(`[data-row="${id}"] input`)?.focus(); },
  key(answer, key) {
    const index = answer.order.indexOf(player.selected);
    const go = (to) => { const id = answer.order[to]; if (id) { hear(id); this.focus(id); } return true; };
    if (/^[1-9]$/.test(key)) return go(Number(key) - 1);
    if (key === "ArrowDown") return go(index + 1);
    if (key === "ArrowUp") return go(index - 1);
    const steps = { ArrowRight: 1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -100, End: 100 };
    if (!(key in steps)) return false;
    if (index >= 0) this.rate(answer, player.selected, (answer.ratings[player.selected] ?? 50) + steps[key]);
    return true;
  },
};

const ab = {
  words: ["A is better", "No difference", "B is better"],
  missing: (answer) => {
    const unheard = answer.order.findIndex((id) => !answer.heard.includes(id));
    return unheard >= 0 ? `Hear ${"AB"[unheard]} first.` : answer.choice ? "" : "Say which you prefer.";
  },
  build(answer, place) {
    const [a, b] = answer.order;
    const verdicts = [a, "none", b].map((choice, index) => {
      const button = make("button", { textContent: `${this.words[index]} ` }, make("kbd", { textContent: "←↓→"[index] }));
      button.dataset.choice = choice;
      button.onclick = () => this.choose(answer, choice);
      return button;
    });
    place.append(
      soundButton("reference", "Reference", "R", "reference"),
      make("div", { className: "pair" }, soundButton(a, "A"), soundButton(b, "B")),
      make("div", { className: "verdicts" }, ...verdicts),
    );
  },
  refresh(answer) {
    for (const button of document.querySelectorAll("[data-choice]"))
      button.setAttribute("aria-pressed", button.dataset.choice === answer.choice);
  },
  choose(answer, choice) { answer.choice = choice; changed(); },
  key(answer, key) {
    const sound = { a: 0, b: 1, 1: 0, 2: 1 }[key.toLowerCase()];
    if (sound !== undefined) { hear(answer.order[sound]); return true; }
    const choice = { ArrowLeft: answer.order[0], ArrowDown: "none", ArrowRight: answer.order[1] }[key];
    if (choice) this.choose(answer, choice);
    return Boolean(choice);
  },
};

const p835 = {
  scales: {
    signal: ["The voice alone is", "very distorted", "fairly distorted", "somewhat distorted", "slightly distorted", "not distorted"],
    background: ["The background alone is", "very intrusive", "somewhat intrusive", "noticeable, not intrusive", "slightly noticeable", "not noticeable"],
    overall: ["The whole is", "bad", "poor", "fair", "good", "excellent"],
  },
  missing: (answer) => {
    if (!answer.heard.length) return "Hear the sound first.";
    return answer.scales.some((scale) => !answer.ratings[scale]) ? "A question has no answer yet." : "";
  },
  build(answer, place) {
    answer.active ??= 0;
    answer.scales.forEach((scale, index) => {
      const [title, ...words] = this.scales[scale];
      const buttons = words.map((word, at) => {
        const button = make("button", {}, make("b", { textContent: at + 1 }), word);
        button.onclick = () => { answer.active = index; this.answer(answer, at + 1); };
        return button;
      });
      const field = make("fieldset", {}, make("legend", { textContent: title }), make("div", { className: "five" }, ...buttons));
      field.dataset.scale = scale;
      place.append(field);
    });
  },
  refresh(answer) {
    document.querySelectorAll("[data-scale]").forEach((field, index) => {
      field.classList.toggle("active", index === answer.active);
      field.querySelectorAll("button").forEach((button, at) =>
        button.setAttribute("aria-pressed", answer.ratings[field.dataset.scale] === at + 1));
    });
  },
  answer(answer, value) {
    answer.ratings[answer.scales[answer.active]] = value;
    const open = answer.scales.findIndex((scale) => !answer.ratings[scale]);
    if (open >= 0) { answer.active = open; player.playing && player.start(0); }
    changed();
  },
  key(answer, key) {
    if (/^[1-5]$/.test(key)) { this.answer(answer, Number(key)); return true; }
    const step = { ArrowDown: 1, ArrowUp: -1 }[key];
    if (step) { answer.active = Math.min(2, Math.max(0, answer.active + step)); changed(); }
    return Boolean(step);
  },
};

const kind = { mushra, ab, p835 }[test.kind];
let session = null, order = [], answer = null, shownAt = 0;

function soundButton(id, text, key = "", className = "") {
  const button = make("button", { className, textContent: key ? `${text} ` : text });
  if (key) button.append(make("kbd", { textContent: key }));
  button.dataset.sound = id;
  button.onclick = () => hear(id);
  return button;
}

function hear(id) {
  player.select(id);
  if (id !== "reference" && !answer.heard.includes(id)) answer.heard.push(id);
  changed();
}

/* What is answered is kept in the browser at every change, so that a closed window loses nothing. */
const storageKey = () => `listening/${test.test}/${session.listener}`;
function keep() {
  try { localStorage.setItem(storageKey(), JSON.stringify(session)); }
  catch { byId("storage").textContent = "This browser keeps nothing: finish in one go, and download the answers."; }
}
function recall(listener) {
  session = { listener, started: new Date().toISOString(), finished: "", trials: {} };
  try { session = JSON.parse(localStorage.getItem(storageKey())) ?? session; }
  catch { byId("storage").textContent = "This browser keeps nothing: finish in one go, and download the answers."; }
}

function begin(listener) {
  recall(listener);
  const random = randomOf(`${test.test}/${listener}`);
  const counted = shuffled(test.trials.filter((trial) => !trial.training), random);
  order = [...test.trials.filter((trial) => trial.training), ...counted];
  const scales = shuffled(["signal", "background"], random).concat("overall");
  for (const trial of order) {
    const sounds = shuffled(Object.keys(trial.stimuli), random);
    session.trials[trial.id] ??= { order: sounds, heard: [], ratings: {}, scales, seconds: 0, done: false };
  }
  byId("start").hidden = true;
  show();
}

async function show() {
  const index = order.findIndex((trial) => !session.trials[trial.id].done);
  byId("progress").value = index < 0 ? 1 : index / order.length;
  if (index < 0) return finish();
  const trial = order[index];
  answer = null;
  byId("choices").replaceChildren();
  const open = trial.reference ? { reference: trial.reference } : {};
  await player.load({ ...open, ...trial.stimuli });
  answer = session.trials[trial.id];
  byId("where").textContent = `${index + 1} of ${order.length}`;
  byId("training").hidden = !trial.training;
  byId("warning").textContent = "";
  byId("trial").hidden = false;
  kind.build(answer, byId("choices"));
  shownAt = performance.now();
  refresh();
}

function next() {
  const missing = kind.missing(answer);
  byId("warning").textContent = missing;
  if (missing) return;
  answer.seconds += (performance.now() - shownAt) / 1000;
  answer.done = true;
  player.stop();
  keep();
  show();
}

function changed() { byId("warning").textContent = ""; keep(); refresh(); }

function refresh() {
  for (const button of document.querySelectorAll("[data-sound]"))
    button.setAttribute("aria-pressed", player.playing && button.dataset.sound === player.selected);
  kind.refresh(answer);
}

function results() {
  const trials = order.map((trial, position) => {
    const { order: presented, seconds, ratings, scales, choice } = session.trials[trial.id];
    const given = { mushra: { ratings }, ab: { choice }, p835: { ratings, scales } }[test.kind];
    return { trial: trial.id, position, order: presented, seconds: Math.round(seconds * 10) / 10, ...given };
  });
  const { listener, started, finished } = session;
  return { format: "polsess-listening-answers-1", test: test.test, kind: test.kind, listener, started, finished, trials };
}

function finish() {
  session.finished ||= new Date().toISOString();
  keep();
  answer = null;
  byId("trial").hidden = true;
  byId("end").hidden = false;
  byId("where").textContent = "Done";
  byId("answers").textContent = JSON.stringify(results(), null, 1);
  byId("download").focus();
}

function download() {
  const blob = new Blob([byId("answers").textContent], { type: "application/json" });
  const link = make("a", { href: URL.createObjectURL(blob), download: `answers-${session.listener}.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const controls = {
  " ": () => { const id = player.selected; player.playing ? player.stop() : hear(id); },
  r: () => "reference" in player.buffers && hear("reference"),
  l: () => player.setLoop(!player.loop),
  s: () => player.setRegion(player.position(), player.region[1]),
  e: () => player.setRegion(player.region[0], player.position()),
  w: () => player.setRegion(0, player.duration),
  Enter: next,
};

document.addEventListener("keydown", (event) => {
  if (!answer || event.ctrlKey || event.altKey || event.metaKey) return;
  const pressable = ["BUTTON", "SUMMARY"].includes(event.target.tagName);
  if (pressable && (event.key === "Enter" || event.key === " ")) return;
  const control = controls[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!control && !kind.key(answer, event.key)) return;
  event.preventDefault();
  if (control && !event.repeat) control();
  if (answer) refresh();
});

/* A button clicked with the mouse gives the keys back; one reached with the tabulator keeps them. */
document.addEventListener("click", (event) => { if (event.detail) event.target.closest("button")?.blur(); });

function timeAt(event) {
  const box = byId("timeline").getBoundingClientRect();
  return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * player.duration;
}
let dragFrom = null;
byId("timeline").onpointerdown = (event) => { dragFrom = timeAt(event); byId("timeline").setPointerCapture(event.pointerId); };
byId("timeline").onpointerup = (event) => {
  if (dragFrom === null) return;
  const [from, to] = [dragFrom, timeAt(event)].sort((one, other) => one - other);
  dragFrom = null;
  if (to - from >= 0.1) player.setRegion(from, to);
  else player.move(to);
};
byId("play").onclick = () => { controls[" "](); refresh(); };
byId("loop").onclick = () => controls.l();
byId("next").onclick = next;
byId("download").onclick = download;
byId("begin").disabled = false;
byId("entry").onsubmit = (event) => { event.preventDefault(); begin(byId("listener").value); };
for (const part of document.querySelectorAll("[data-kind]")) part.hidden = part.dataset.kind !== test.kind;
for (const part of document.querySelectorAll("[data-open]")) part.hidden = test.kind === "p835";

/* The time line follows the sound. */
(function draw() {
  const place = player.position(), share = (seconds) => `${(100 * seconds) / (player.duration || 1)}%`;
  byId("cursor").style.left = share(place);
  byId("region").style.left = share(player.region[0]);
  byId("region").style.width = share(player.region[1] - player.region[0]);
  byId("time").textContent = `${place.toFixed(1)} / ${player.duration.toFixed(1)} s`;
  byId("timeline").setAttribute("aria-valuenow", place.toFixed(1));
  byId("timeline").setAttribute("aria-valuemax", player.duration.toFixed(1));
  byId("play-label").textContent = player.playing ? "Pause" : "Play";
  byId("loop").setAttribute("aria-pressed", player.loop);
  requestAnimationFrame(draw);
})();
