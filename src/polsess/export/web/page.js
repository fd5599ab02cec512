"use strict";
const WORDS = {
  en: {
    title: "Separate voices", lead: "Everything stays in this browser: nothing is uploaded.",
    choose: "Choose or drop a sound file", record: "Record", stop: "Stop recording", play: "Play", pause: "Pause",
    save: "Save as WAV", mixture: "Mixture", speech: "Speech", speaker: "Speaker", working: "Separating",
    done: "Separated {s} s of sound in {t} s ({r} s per second of sound).",
    long: "This sound is {m} minutes long; a page separates at most {n}. Cut it, or use polsess separate.",
    notSound: "{f} is no sound that this browser reads. Choose a WAV, FLAC, MP3 or OGG file.",
    silent: "{f} holds no samples.", noMicrophone: "There is no microphone, or it may not be used.",
    failed: "It did not work: {e}. Load the page again, or use polsess separate.", position: "Position",
    only: "Hear {n}", help: "Space plays and pauses; arrow left and right move by 2 s; 1, 2, 3 choose what is heard, 0 the mixture.",
  },
  pl: {
    title: "Rozdziel głosy", lead: "Wszystko zostaje w tej przeglądarce: nic nie jest wysyłane.",
    choose: "Wybierz lub upuść plik dźwiękowy", record: "Nagraj", stop: "Zakończ nagrywanie", play: "Odtwórz",
    pause: "Wstrzymaj", save: "Zapisz jako WAV", mixture: "Mieszanina", speech: "Mowa", speaker: "Mówca",
    working: "Rozdzielanie", done: "Rozdzielono {s} s dźwięku w {t} s ({r} s na sekundę dźwięku).",
    long: "Ten dźwięk trwa {m} min; strona rozdziela najwyżej {n}. Przytnij go albo użyj polsess separate.",
    notSound: "{f} nie jest dźwiękiem, który ta przeglądarka czyta. Wybierz plik WAV, FLAC, MP3 lub OGG.",
    silent: "{f} nie zawiera próbek.", noMicrophone: "Nie ma mikrofonu albo nie wolno go użyć.",
    failed: "Nie udało się: {e}. Wczytaj stronę ponownie albo użyj polsess separate.", position: "Pozycja",
    only: "Słuchaj: {n}", help: "Spacja odtwarza i wstrzymuje; strzałki przesuwają o 2 s; 1, 2, 3 wybierają głos, 0 mieszaninę.",
  },
};
const MOST_SECONDS = 1800, MOST_BYTES = 1 << 29;
const $ = (id) => document.getElementById(id);
let language = (navigator.language || "en").startsWith("pl") ? "pl" : "en";
let facts = null, sounds = [], context = null, playing = null, place = 0, chosen = 0, recorder = null, name = "sound";
let worker = null, message = null;

function say(key, values = {}) {
  return Object.entries(values).reduce((text, [word, value]) => text.replaceAll(`{${word}}`, value), WORDS[language][key]);
}

function tell(key, values, isError = false) {
  message = key && { key, values, isError };
  $("status").textContent = key ? say(key, values) : "";
  $("status").className = isError ? "problem" : "";
}

function translate() {
  document.documentElement.lang = language;
  document.title = say("title");
  document.querySelectorAll("[data-say]").forEach((each) => { each.textContent = say(each.dataset.say); });
  $("language").textContent = language === "pl" ? "English" : "Polski";
  $("record").textContent = say(recorder ? "stop" : "record");
  $("play").textContent = say(playing ? "pause" : "play");
  $("seek").setAttribute("aria-label", say("position"));
  if (message) tell(message.key, message.values, message.isError);
  show();
}

function labelOf(index) {
  if (index === 0) return say("mixture");
  return facts.names.length === 1 ? say("speech") : `${say("speaker")} ${index}`;
}

async function decode(content, label) {
  const offline = new OfflineAudioContext(1, 1, facts.sample_rate);
  let decoded;
  try { decoded = await offline.decodeAudioData(content); } catch { tell("notSound", { f: label }, true); return null; }
  if (!decoded.length) { tell("silent", { f: label }, true); return null; }
  if (tooLong(decoded.duration)) return null;
  const mix = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    const samples = decoded.getChannelData(channel);
    for (let i = 0; i < mix.length; i++) mix[i] += samples[i] / decoded.numberOfChannels;
  }
  return mix;
}

function tooLong(seconds) {
  if (seconds <= MOST_SECONDS) return false;
  tell("long", { m: Math.ceil(seconds / 60), n: MOST_SECONDS / 60 }, true);
  return true;
}

// The length of a file from its header, before minutes are spent on decoding hours.
function lengthOf(file) {
  return new Promise((resolve) => {
    const audio = new Audio(), url = URL.createObjectURL(file);
    const end = (seconds) => { URL.revokeObjectURL(url); resolve(seconds); };
    audio.onloadedmetadata = () => end(Number.isFinite(audio.duration) ? audio.duration : 0);
    audio.onerror = () => end(0);
    audio.src = url;
  });
}

async function open(file) {
  halt();
  name = (file.name || "recording").replace(/\.[^.]*$/, "");
  if (file.size > MOST_BYTES || (file.type && !/^(audio|video)\//.test(file.type) && !/ogg/.test(file.type))) {
    if (file.size > MOST_BYTES) tell("long", { m: ">30", n: MOST_SECONDS / 60 }, true);
    else tell("notSound", { f: file.name }, true);
    return;
  }
  if (tooLong(await lengthOf(file))) return;
  const mix = await decode(await file.arrayBuffer(), file.name || "");
  if (mix) run(mix);
}

function run(mix) {
  worker?.terminate();
  worker = new Worker("worker.js", { type: "module" });
  sounds = [{ samples: mix, active: null }];
  place = chosen = 0;
  $("results").hidden = true;
  $("progress").hidden = false;
  $("progress").value = 0;
  tell("working");
  const failed = (text) => { $("progress").hidden = true; tell("failed", { e: text }, true); };
  worker.onerror = (event) => failed(event.message || "worker");
  worker.onmessage = ({ data }) => {
    if (data.progress) { $("progress").value = data.progress; return; }
    if (data.error) { failed(data.error); return; }
    sounds.push(...data.tracks.map((samples, c) => ({ samples, active: data.active?.[c] ?? null })));
    const seconds = mix.length / facts.sample_rate;
    $("progress").hidden = true;
    $("results").hidden = false;
    tell("done", { s: seconds.toFixed(1), t: data.seconds.toFixed(1), r: (data.seconds / seconds).toFixed(2) });
    show();
  };
  worker.postMessage({ samples: mix });
}

function wav(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length)), rate = facts.sample_rate;
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  const peak = sounds.slice(1).reduce((most, { samples: each }) => each.reduce((m, v) => Math.max(m, Math.abs(v)), most), 1);
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true); view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, i) => view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(value / peak * 32768))), true));
  return new Uint8Array(view.buffer);
}

function show() {
  if (sounds.length < 2) return;
  const list = $("tracks");
  list.querySelectorAll("a").forEach((link) => URL.revokeObjectURL(link.href));
  list.replaceChildren(...sounds.map((sound, index) => {
    const row = document.createElement("li"), head = document.createElement("div"), canvas = document.createElement("canvas");
    const button = document.createElement("button"), link = document.createElement("a");
    button.textContent = labelOf(index);
    button.setAttribute("aria-pressed", String(index === chosen));
    button.setAttribute("aria-label", say("only", { n: labelOf(index) }));
    button.onclick = () => choose(index);
    head.append(button);
    if (index) {
      link.textContent = say("save");
      link.download = `${name}_${facts.names[index - 1]}.wav`;
      link.href = URL.createObjectURL(new Blob([wav(sound.samples)], { type: "audio/wav" }));
      head.append(link);
    }
    canvas.onclick = (event) => move(event.offsetX / canvas.clientWidth * length());
    row.className = `track s${index}`;
    row.append(head, canvas);
    return row;
  }));
  draw();
}

function draw() {
  const styles = getComputedStyle(document.documentElement);
  document.querySelectorAll("#tracks canvas").forEach((canvas, index) => {
    const { samples, active } = sounds[index], ratio = devicePixelRatio || 1;
    const width = canvas.width = canvas.clientWidth * ratio, height = canvas.height = canvas.clientHeight * ratio;
    const paint = canvas.getContext("2d"), wave = height - (active ? 8 * ratio : 0);
    const peak = sounds[0].samples.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-6);
    paint.fillStyle = getComputedStyle(canvas).color;
    for (let x = 0; x < width; x++) {
      const first = Math.floor(x * samples.length / width), last = Math.max(first + 1, Math.floor((x + 1) * samples.length / width));
      let low = 0, high = 0;
      for (let i = first; i < last; i++) { low = Math.min(low, samples[i]); high = Math.max(high, samples[i]); }
      const top = (1 - Math.min(1, high / peak)) * wave / 2, bottom = (1 - Math.max(-1, low / peak)) * wave / 2;
      paint.fillRect(x, top, 1, Math.max(1, bottom - top));
    }
    active?.forEach((on, l) => { if (on) paint.fillRect(l * width / active.length, height - 5 * ratio, Math.ceil(width / active.length), 5 * ratio); });
    paint.fillStyle = styles.getPropertyValue("--ink");
    paint.fillRect(place / length() * width, 0, 2 * ratio, height);
  });
  $("seek").max = length();
  $("seek").value = place;
  $("time").textContent = `${place.toFixed(1)} / ${length().toFixed(1)} s`;
}

const length = () => sounds[0].samples.length / facts.sample_rate;
const now = () => Math.min(length(), playing.from + context.currentTime - playing.at);

function start() {
  context ??= new AudioContext();
  context.resume();
  if (place >= length() - 0.05) place = 0;
  playing = { from: place, at: context.currentTime, parts: sounds.map(({ samples }, index) => {
    const buffer = context.createBuffer(1, samples.length, facts.sample_rate), source = context.createBufferSource();
    const gain = context.createGain();
    buffer.copyToChannel(samples, 0);
    source.buffer = buffer;
    gain.gain.value = index === chosen ? 1 : 0;
    source.connect(gain).connect(context.destination);
    source.start(0, place);
    return { source, gain };
  }) };
  requestAnimationFrame(tick);
  $("play").textContent = say("pause");
}

function halt() {
  if (!playing) return;
  place = now();
  playing.parts.forEach(({ source }) => source.stop());
  playing = null;
  $("play").textContent = say("play");
}

function tick() {
  if (!playing) return;
  place = now();
  if (place >= length()) halt();
  draw();
  requestAnimationFrame(tick);
}

function move(seconds) {
  if (sounds.length < 2) return;
  const was = playing;
  halt();
  place = Math.max(0, Math.min(length(), seconds));
  if (was) start();
  draw();
}

function choose(index) {
  if (index >= sounds.length) return;
  chosen = index;
  playing?.parts.forEach(({ gain }, other) => gain.gain.setTargetAtTime(other === index ? 1 : 0, context.currentTime, 0.01));
  document.querySelectorAll("#tracks button").forEach((button, other) => button.setAttribute("aria-pressed", String(other === index)));
}

async function record() {
  if (recorder) { recorder.stop(); return; }
  let stream;
  try { stream = await navigator.mediaDevices.getUserMedia({ audio: true }); } catch { tell("noMicrophone", {}, true); return; }
  const parts = [];
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = ({ data }) => parts.push(data);
  recorder.onstop = () => {
    stream.getTracks().forEach((track) => track.stop());
    const type = recorder.mimeType;
    recorder = null;
    translate();
    open(new File(parts, "recording", { type }));
  };
  recorder.start();
  translate();
}

async function begin() {
  facts = await (await fetch("facts.json")).json();
  $("file").onchange = ({ target }) => { if (target.files[0]) open(target.files[0]); target.value = ""; };
  $("language").onclick = () => { language = language === "pl" ? "en" : "pl"; translate(); };
  $("record").onclick = record;
  $("play").onclick = () => (playing ? halt() : start());
  $("seek").oninput = ({ target }) => move(Number(target.value));
  addEventListener("resize", () => { if (sounds.length > 1) draw(); });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]); });
  addEventListener("keydown", (event) => {
    if (sounds.length < 2 || event.ctrlKey || event.metaKey || event.altKey || /INPUT/.test(event.target.tagName)) return;
    if (event.key === " " && event.target.tagName !== "BUTTON") { event.preventDefault(); playing ? halt() : start(); }
    if (event.key === "ArrowLeft") move(place - 2);
    if (event.key === "ArrowRight") move(place + 2);
    if (/^[0-9]$/.test(event.key)) choose(Number(event.key));
  });
  translate();
}

begin();
