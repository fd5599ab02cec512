// The page: a sound comes in, the worker separates it, the tracks are shown, played and saved.
import { MOST_SECONDS, Recording, openFile } from "./opening.js";
import { Player } from "./player.js";
import { toRttm } from "./separation/timelines.js";
import { encodeWav } from "./separation/wav.js";
import { drawWave } from "./waves.js";
import { clock, currentLanguage, languages, nextLanguage, say, shownNumber, shownSeconds } from "./words.js";

const $ = (id) => document.getElementById(id);
const player = new Player(showPlace, () => tell([...lines.filter(([key]) => key !== "noOutput"), ["noOutput"]]));
const recording = new Recording(
  (seconds) => { $("record-label").textContent = say("stop", { s: clock(seconds) }); document.body.classList.add("recording"); },
  (file) => { document.body.classList.remove("recording"); translate(); open(file); },
);
let facts = null, worker = null, job = 0, result = null, source = null, name = "", lines = [], isProblem = false;

// Each line is [key, values], so that it can be said again in another language.
function tell(newLines, problem = false) {
  lines = newLines;
  isProblem = problem;
  const text = lines.map(([key, values]) => say(key, spoken(values))).join("\n");
  if ($("status").textContent !== text) $("status").textContent = text;
  $("status").classList.toggle("problem", problem);
}

// Times and ratios among the values are numbers until they are said.
const spoken = (values = {}) => Object.fromEntries(Object.entries(values).map(([key, value]) => {
  if (value?.seconds !== undefined) return [key, shownSeconds(value.seconds)];
  return [key, value?.ratio !== undefined ? shownNumber(value.ratio, 2) : value];
}));

function translate() {
  document.documentElement.lang = currentLanguage();
  document.querySelectorAll("[data-say]").forEach((each) => { each.textContent = say(each.dataset.say, { n: MOST_SECONDS / 60 }); });
  document.title = document.querySelector("h1").textContent;
  $("language").textContent = { en: "English", pl: "Polski" }[languages.find((each) => each !== currentLanguage())];
  if (!recording.isOn) $("record-label").textContent = say("record");
  $("seek").setAttribute("aria-label", say("position"));
  $("count").options[0].textContent = say("automatic");
  tell(lines, isProblem);
  if (result) showTracks();
  showPlace();
}

const labelOf = (index) => {
  if (facts.names.length === 1) return say(index ? "speech" : "original");
  return index ? say("speaker", { n: index }) : say("mixture");
};
const nameOf = (index) => (facts.names.length === 1 ? "speech" : `speaker${index}`);

async function open(file) {
  const mine = begin();
  source = file;
  name = file.name;
  $("progress").removeAttribute("value");
  $("work").hidden = false;
  tell([["opening", { f: name }]]);
  try {
    const sound = await openFile(file, facts.sample_rate);
    if (mine === job) run(sound, mine);
  } catch (error) {
    if (mine === job) fail(error.key ? error : { key: "failed", values: { e: String(error.message ?? error) } });
  }
}

// A new job ends the one before; what comes late of that one is not shown.
function begin() {
  cancel();
  player.load([], 0);
  result = null;
  $("results").hidden = true;
  return job;
}

function cancel() {
  job++;
  if ($("work").hidden) return;
  worker?.terminate();
  worker = null;
  $("work").hidden = true;
  tell([["cancelled"]]);
}

function fail({ key, values }) {
  $("work").hidden = true;
  tell([[key, { f: name, ...values }]], true);
}

function run({ channels, rate }, mine) {
  worker ??= new Worker("worker.js", { type: "module" });
  tell([["loading"]]);
  let start = 0;
  worker.onerror = (event) => { worker = null; fail({ key: "notLoaded", values: { e: event.message || "worker.js" } }); };
  worker.onmessage = ({ data }) => {
    if (mine !== job) return;
    if (data.error) { fail(data.error); return; }
    if (data.progress === undefined) { finish(data); return; }
    start ||= performance.now();
    const seconds = (performance.now() - start) / 1000;
    $("progress").value = data.progress;
    const left = data.progress > 0.05 && seconds > 3 ? [["left", { s: { seconds: (seconds * (1 - data.progress)) / data.progress } }]] : [];
    tell([["working", { p: Math.floor(100 * data.progress) }], ...left]);
  };
  const count = Number($("count").value);
  worker.postMessage({ channels, rate, numSpeakers: count ? [count, count] : null }, channels.map(({ buffer }) => buffer));
}

function finish({ sounds, waves, peaks, timeline, seconds }) {
  player.load(sounds, facts.sample_rate);
  result = { waves, peaks, timeline };
  $("work").hidden = true;
  $("results").hidden = false;
  $("name").textContent = name;
  const length = player.length, share = (100 * (timeline?.networkSeconds ?? length)) / length;
  const found = new Set(timeline?.turns.map((turn) => turn.speaker)).size;
  let note = [];
  if (!peaks[0]) note = [["digital", { f: name }]];
  else if (timeline && !found) note = [["noSpeech"]];
  else if (timeline && facts.detector) note = timeline.whole ? [["wholly"]] : [["gated", { n: found, p: share.toFixed(0) }]];
  if (found === 1 && note[0]?.[0] === "gated" && $("count").value === "0") note.push(["oneVoice"]);
  tell([...note, ["done", { s: { seconds: length }, t: { seconds }, r: { ratio: seconds / length } }]]);
  $("save-all").hidden = peaks.length < 3;
  $("save-timeline").hidden = !timeline?.turns.length;
  showTracks();
  showPlace();
}

function showTracks() {
  $("tracks").replaceChildren(...result.waves.map((_, index) => {
    const row = element("li", `track s${Math.min(index, 8)}`), head = element("div", "head"), label = labelOf(index);
    const hear = element("button", "hear", label), talk = element("span", "facts soft", talkOf(index));
    hear.setAttribute("aria-label", say("hear", { n: label }));
    hear.onclick = () => player.choose(index);
    head.append(hear, talk);
    if (index) {
      const button = element("button", "", say("save"));
      button.setAttribute("aria-label", say("saveLabel", { n: label }));
      button.onclick = () => saveTrack(index);
      head.append(button);
    }
    const wave = element("div", "wave");
    wave.append(element("canvas"), element("div", "cursor"));
    wave.onclick = (event) => player.move(((event.clientX - wave.getBoundingClientRect().left) / wave.clientWidth) * player.length);
    row.append(head, wave);
    return row;
  }));
  draw();
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  if (tag === "button") made.type = "button";
  return made;
}

const turnsOf = (index) => (result.timeline?.turns ?? []).filter((turn) => turn.speaker === nameOf(index));

function talkOf(index) {
  if (index === 0 || !result.timeline) return "";
  const seconds = turnsOf(index).reduce((total, turn) => total + turn.end - turn.start, 0);
  return seconds ? say("talks", { s: shownSeconds(seconds) }) : say("nothing");
}

function draw() {
  const share = ([start, end]) => [start / player.length, end / player.length];
  document.querySelectorAll("#tracks canvas").forEach((canvas, index) => drawWave(canvas, result.waves[index], Math.max(result.peaks[0], 1e-6), {
    band: index ? turnsOf(index).map((turn) => share([turn.start, turn.end])) : [],
    shade: (result.timeline?.overlaps ?? []).map(share),
  }));
  showPlace();
}

function showPlace() {
  const { now, length } = player;
  $("play").textContent = say(player.isPlaying ? "pause" : "play");
  $("seek").max = length;
  $("seek").value = now;
  $("seek").setAttribute("aria-valuetext", shownSeconds(now));
  $("time").textContent = `${clock(now)} / ${clock(length)}`;
  document.querySelectorAll(".cursor").forEach((cursor) => { cursor.style.left = `${length ? (100 * now) / length : 0}%`; });
  document.querySelectorAll(".hear").forEach((button, index) => button.setAttribute("aria-pressed", String(index === player.chosen)));
}

const stem = () => name.replace(/\.[^.]*$/, "") || "sound";

function saveTrack(index) {
  const gain = 1 / Math.max(1, ...result.peaks.slice(1)); // one for all, so that they still add up
  save(encodeWav(player.samples(index), facts.sample_rate, gain), "audio/wav", `_${nameOf(index)}.wav`);
}

function save(content, type, ending) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = stem().replace(/[\\/:*?"<>|\u0000-\u001f]/g, "_") + ending;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function toggleRecording() {
  if (recording.isOn) { recording.stop(); return; }
  begin();
  tell([]);
  try { await recording.start(say("recording")); } catch (error) { fail(error); }
}

function take(files) {
  if (files.length) open(files[0]);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") { cancel(); return; }
  if (!result || /INPUT|SELECT/.test(event.target.tagName)) return;
  const moves = { ArrowLeft: player.now - 2, ArrowRight: player.now + 2, Home: 0, End: player.length };
  if (event.key === " " && event.target.tagName !== "BUTTON") player.toggle();
  else if (event.key in moves) player.move(moves[event.key]);
  else if (/^[0-9]$/.test(event.key)) { player.choose(Number(event.key)); return; }
  else return;
  event.preventDefault();
}

async function start() {
  facts = await (await fetch("facts.json")).json();
  if (facts.names.length === 1) document.querySelector("h1").dataset.say = "titleOne";
  $("voices").hidden = !facts.detector;
  const most = facts.num_speakers[1];
  $("count").append(...Array.from({ length: most + 1 }, (_, count) => Object.assign(element("option", "", String(count)), { value: count })));
  $("file").onchange = ({ target }) => { take([...target.files]); target.value = ""; };
  $("language").onclick = () => { nextLanguage(); translate(); };
  $("record").onclick = toggleRecording;
  $("count").onchange = () => { if (result) open(source); };
  $("cancel").onclick = cancel;
  $("play").onclick = () => player.toggle();
  $("seek").oninput = ({ target }) => player.move(Number(target.value));
  $("save-all").onclick = () => result.waves.forEach((_, index) => { if (index) saveTrack(index); });
  $("save-timeline").onclick = () => save(toRttm(result.timeline.turns, stem()), "text/plain", ".rttm");
  new ResizeObserver(() => { if (result) draw(); }).observe($("tracks"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (result) draw(); });
  addEventListener("keydown", onKey);
  addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  addEventListener("dragleave", () => $("drop").classList.remove("over"));
  addEventListener("drop", (event) => { event.preventDefault(); $("drop").classList.remove("over"); take([...event.dataTransfer.files]); });
  translate();
  document.body.dataset.ready = "true";
}

start().catch((error) => fail({ key: "notLoaded", values: { e: String(error.message ?? error) } }));
