// The page: recordings are sent, their jobs followed, their results shown; the session remembers its jobs.
import { Player } from "./players.js";
import { currentLanguage, element, say, setLanguage, size, time } from "./words.js";

const find = (selector) => document.querySelector(selector);
const order = find("#order");
const entrance = find("#entrance");
const remembered = () => JSON.parse(sessionStorage.getItem("jobs") ?? "[]");
const remember = (jobs) => sessionStorage.setItem("jobs", JSON.stringify(jobs));
let chosen = [];
let offer = null;

const problemOf = async (answer) => {
  try { return (await answer.json()).detail; } catch { return `${answer.status} ${answer.statusText}`; }
};

// --- entrance ---------------------------------------------------------------------------------------

const enter = async () => {
  const answer = await fetch("/v1/service");
  entrance.hidden = answer.status !== 401;
  order.hidden = !answer.ok;
  if (!answer.ok) return answer.status;
  offer = await answer.json();
  find("#leave").hidden = !offer.needs_key;
  fill(order.elements.model, offer.models);
  fill(order.elements.format, offer.formats);
  describe();
  for (const id of remembered()) new Card(id);
  return answer.status;
};

const fill = (select, values) => select.replaceChildren(...values.map((each) => element("option", {}, each)));

const describe = () => {
  if (!offer) return;
  find("#limits").textContent = say("limits", size(offer.max_bytes), time(offer.max_seconds), offer.retention_hours);
};

entrance.addEventListener("submit", async (event) => {
  event.preventDefault();
  const headers = { Authorization: `Bearer ${find("#key").value.trim()}` };
  const answer = await fetch("/v1/session", { method: "POST", headers });
  find("#key").value = "";
  entrance.querySelector(".problem").textContent = answer.ok ? "" : say("wrong_key");
  if (answer.ok) enter();
});

find("#leave").addEventListener("click", async () => {
  await fetch("/v1/session", { method: "DELETE" });
  sessionStorage.removeItem("jobs");
  location.reload();
});

// --- choosing, recording and sending ----------------------------------------------------------------

const choose = (files) => {
  chosen.push(...files);
  find("#files").value = "";
  order.querySelector(".problem").textContent = "";
  find("#chosen").replaceChildren(...chosen.map((file, index) => element("li", {},
    element("span", {}, `${file.name} (${size(file.size)})`),
    element("button", { type: "button", onclick: () => { chosen.splice(index, 1); choose([]); } }, say("remove")))));
  find("#send").disabled = chosen.length === 0;
};

find("#files").addEventListener("change", (event) => choose(event.target.files));
const drop = find("#drop");
for (const kind of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") choose(event.dataTransfer.files);
  });
}

// What a browser records is decoded here and sent as WAV, which every service reads.
const toWav = async (blob) => {
  const context = new AudioContext();
  const buffer = await context.decodeAudioData(await blob.arrayBuffer());
  context.close();
  const samples = buffer.getChannelData(0);
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const words = [[0, "RIFF"], [8, "WAVE"], [12, "fmt "], [36, "data"]];
  words.forEach(([at, word]) => [...word].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0))));
  view.setUint32(4, 36 + 2 * samples.length, true);
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, buffer.sampleRate, true);
  view.setUint32(28, 2 * buffer.sampleRate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, index) =>
    view.setInt16(44 + 2 * index, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return new File([view], `recording-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.wav`);
};

let recorder = null;
find("#record").addEventListener("click", async () => {
  const button = find("#record");
  if (recorder) return recorder.stop();
  try {
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
    const pieces = [];
    const begin = Date.now();
    recorder = new MediaRecorder(stream);
    const ticking = setInterval(() => {
      button.textContent = `${say("stop")} (${time((Date.now() - begin) / 1000)})`;
    }, 200);
    recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
    recorder.addEventListener("stop", async () => {
      clearInterval(ticking);
      stream.getTracks().forEach((track) => track.stop());
      recorder = null;
      button.textContent = say("record");
      button.classList.remove("on");
      choose([await toWav(new Blob(pieces))]);
    });
    recorder.start();
    button.classList.add("on");
  } catch (error) {
    recorder = null;
    order.querySelector(".problem").textContent = `${say("microphone")}: ${error.message}`;
  }
});

order.addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData();
  for (const name of ["model", "speakers", "gate", "channels", "format"]) {
    form.append(name, order.elements[name].value);
  }
  chosen.forEach((file) => form.append("file", file, file.name));
  const problem = order.querySelector(".problem");
  const request = new XMLHttpRequest();
  request.responseType = "json";
  problem.textContent = "";
  find("#send").disabled = true;
  const ended = (text) => {
    problem.textContent = text;
    find("#send").textContent = say("send");
    find("#send").disabled = chosen.length === 0;
  };
  request.upload.addEventListener("progress", (now) => {
    if (now.lengthComputable) find("#send").textContent = `${say("sending")} ${Math.round((100 * now.loaded) / now.total)} %`;
  });
  request.addEventListener("error", () => ended(say("lost")));
  request.addEventListener("load", () => {
    if (request.status !== 202) return ended(request.response?.detail ?? String(request.status));
    chosen = [];
    choose([]);
    ended("");
    remember([request.response.id, ...remembered()]);
    new Card(request.response.id, request.response, true);
  });
  request.open("POST", "/v1/jobs");
  request.send(form);
});

// --- jobs -------------------------------------------------------------------------------------------

class Card {
  constructor(id, job = null, first = false) {
    this.id = id;
    this.rows = [];
    this.title = element("h2");
    this.remove = element("button", { type: "button", onclick: () => this.delete() }, say("cancel"));
    this.archive = element("a", { class: "button", hidden: true }, say("all"));
    this.body = element("div");
    this.root = element("article", { class: "card" },
      element("div", { class: "top" }, this.title, this.archive, this.remove), this.body);
    if (first) find("#history").prepend(this.root);
    else find("#history").append(this.root);
    if (job) this.show(job);
    this.follow();
  }

  follow() {
    this.events = new EventSource(`/v1/jobs/${this.id}/events`);
    this.events.addEventListener("message", (event) => this.show(JSON.parse(event.data)));
    this.events.addEventListener("error", async () => {
      this.events.close();
      if (this.ended) return;
      const answer = await fetch(`/v1/jobs/${this.id}`).catch(() => null);
      if (answer?.status === 404) return this.forget();
      setTimeout(() => this.follow(), 2000);
    });
  }

  show(job) {
    this.title.textContent = job.files.map((file) => file.name).join(", ");
    this.ended = job.status === "done" || job.status === "failed";
    if (this.ended) this.events?.close();
    this.remove.textContent = say(this.ended ? "delete" : "cancel");
    if (this.ended && job.archive) {
      this.archive.href = job.archive;
      this.archive.hidden = false;
    }
    if (!this.rows.length) {
      this.rows = job.files.map(() => new Row(job.files.length > 1));
      this.body.replaceChildren(...this.rows.map((row) => row.root));
    }
    job.files.forEach((file, index) => this.rows[index].show(file));
  }

  forget() {
    remember(remembered().filter((each) => each !== this.id));
    this.events.close();
    this.root.remove();
  }

  async delete() {
    this.ended = true;
    await fetch(`/v1/jobs/${this.id}`, { method: "DELETE" });
    this.forget();
  }
}

class Row {
  constructor(named) {
    this.named = named;
    this.name = element("strong");
    this.bar = element("progress", { max: 1 });
    this.words = element("span", { class: "note" });
    this.listen = element("button", { type: "button", hidden: true, onclick: () => this.open() }, say("show"));
    this.player = element("div");
    this.root = element("div", { class: "file" },
      element("div", { class: "state" }, this.name, this.bar, this.words, this.listen), this.player);
  }

  show(file) {
    this.file = file;
    this.name.textContent = this.named ? file.name : "";
    this.bar.value = file.progress;
    this.bar.hidden = file.status !== "running";
    this.words.textContent = this.state(file);
    this.words.className = file.status === "failed" ? "problem" : "note";
    if (file.status !== "done" || this.opened) return;
    if (this.named) this.listen.hidden = false;
    else this.open();
  }

  state(file) {
    if (file.status === "failed") return file.error;
    if (file.status === "queued") return file.ahead ? say("ahead", file.ahead) : say("queued");
    if (file.status === "done") return `${say("done")}, ${time(file.seconds)}, ${file.sample_rate} Hz`;
    const left = file.seconds_left === null ? "" : `, ${say("left", time(Math.ceil(file.seconds_left)))}`;
    return `${say(file.stage || "running")}${left}`;
  }

  open() {
    this.opened = true;
    this.listen.hidden = true;
    this.player.replaceChildren(new Player(this.file).root);
    find("#keys").hidden = false;
  }
}

find("#language").addEventListener("change", (event) => {
  setLanguage(event.target.value);
  location.reload();
});
setLanguage(currentLanguage());
find("#language").value = currentLanguage();
enter();
