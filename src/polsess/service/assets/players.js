// A player of one recording and its tracks: all run in step, one of them is audible.
import { element, nameOf, say, size, time } from "./words.js";

const DRIFT_SECONDS = 0.04;
const STEP_SECONDS = 5;
let active = null;

export class Player {
  constructor(file) {
    this.seconds = file.seconds;
    const results = (kind) => file.results.filter((each) => each.kind === kind);
    const pictures = new Map(results("picture").map((each) => [each.speaker, each.url]));
    const sounds = [{ speaker: "mixture", url: file.source, bytes: null }, ...results("track")];
    this.tracks = sounds.map((sound, index) => this.track(sound, pictures.get(sound.speaker), index));
    this.chosen = Math.min(1, this.tracks.length - 1);
    this.button = element("button", { type: "button", class: "play", onclick: () => this.toggle() }, say("play"));
    this.slider = element("input", {
      type: "range", min: 0, max: this.seconds, step: 0.01, value: 0, "aria-label": say("position"),
      oninput: () => this.seek(Number(this.slider.value)),
    });
    this.clock = element("output", { class: "time" });
    this.repeat = element("input", { type: "checkbox" });
    this.lanes = element("div", { class: "lanes" });
    const links = results("timeline").map((each) => this.link(each, each.name.split(".").pop()));
    this.root = element("div", { class: "player" },
      element("div", { class: "transport" }, this.button, this.slider, this.clock,
        element("label", {}, this.repeat, ` ${say("repeat")}`)),
      this.lanes,
      element("div", { class: "tracks" }, ...this.tracks.map((each) => each.row)),
      element("p", { class: "links" }, ...links));
    this.root.addEventListener("pointerdown", () => { active = this; });
    this.root.addEventListener("focusin", () => { active = this; });
    active = this;
    this.position = 0;
    this.playing = false;
    this.choose(this.chosen);
    this.show();
    const timeline = results("timeline").find((each) => each.name.endsWith(".json"));
    if (timeline) fetch(timeline.url).then((answer) => answer.json()).then((data) => this.draw(data));
  }

  link(result, text) {
    return element("a", { href: result.url, download: result.name, title: result.name },
      `${text} (${size(result.bytes)})`);
  }

  track(sound, picture, index) {
    const audio = element("audio", { src: sound.url, preload: "metadata" });
    audio.muted = true;
    const detail = element("small");
    const pick = element("button", { type: "button", class: "pick", onclick: () => this.choose(index) },
      element("kbd", {}, index < 9 ? String(index + 1) : ""), element("span", {}, nameOf(sound.speaker), detail));
    const head = element("span", { class: "head", "aria-hidden": "true" });
    const view = element("div", { class: "picture" }, head);
    const image = `${say("mixture")}: ${nameOf(sound.speaker)}`;
    if (picture) view.prepend(element("img", { src: picture, alt: image, loading: "lazy" }));
    view.addEventListener("click", (event) => { this.choose(index); this.seek(this.place(view, event)); });
    const save = sound.bytes === null ? "" : this.link(sound, say("save"));
    const track = { audio, pick, head, detail, usable: true, speaker: sound.speaker };
    audio.addEventListener("error", () => {
      track.usable = false;
      pick.disabled = true;
      detail.textContent = say("unplayable");
    });
    audio.addEventListener("ended", () => this.end(track));
    track.row = element("div", { class: "track" }, element("div", { class: "name" }, pick, save), view);
    return track;
  }

  draw(timeline) {
    const colours = new Map(timeline.speakers.map((each, index) => [each.name, index % 6]));
    this.lanes.append(element("p", { class: "note" }, say("who")));
    for (const speaker of timeline.speakers) {
      const lane = element("div", { class: "picture" }, element("span", { class: "head", "aria-hidden": "true" }));
      for (const turn of timeline.turns.filter((each) => each.speaker === speaker.name)) {
        const bar = element("span", { class: `turn s${colours.get(speaker.name)}` });
        bar.style.left = `${(100 * turn.start) / this.seconds}%`;
        bar.style.width = `${Math.max(0.15, (100 * (turn.end - turn.start)) / this.seconds)}%`;
        bar.title = `${nameOf(speaker.name)}: ${turn.start.toFixed(1)} – ${turn.end.toFixed(1)} s`;
        lane.append(bar);
      }
      lane.addEventListener("click", (event) => this.seek(this.place(lane, event)));
      const talks = element("small", {}, say("talks", time(speaker.talks_seconds)));
      this.lanes.append(element("div", { class: "track lane" },
        element("div", { class: "name" }, element("span", {}, nameOf(speaker.name), talks)), lane));
    }
    if (timeline.voices_found === 1 && !timeline.separated_whole) {
      this.lanes.append(element("p", { class: "note" }, say("one_voice")));
    }
    this.show();
  }

  place(view, event) {
    const box = view.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * this.seconds;
  }

  // The track whose clock counts: the audible one, or another where the browser cannot play it.
  get master() {
    const chosen = this.tracks[this.chosen];
    return chosen.usable ? chosen : this.tracks.find((each) => each.usable) ?? chosen;
  }

  toggle() {
    if (this.playing) return this.stop();
    if (active && active !== this) active.stop();
    active = this;
    this.playing = true;
    this.button.textContent = say("pause");
    if (this.position >= this.seconds - 0.05) this.position = 0;
    for (const { audio, usable } of this.tracks) {
      if (!usable) continue;
      audio.currentTime = this.position;
      audio.play().catch(() => {});
    }
    this.follow();
  }

  stop() {
    if (!this.playing) return;
    this.playing = false;
    this.tracks.forEach(({ audio }) => audio.pause());
    this.button.textContent = say("play");
    this.show();
  }

  end(track) {
    if (!this.playing || track !== this.master) return;
    this.stop();
    this.position = 0;
    if (this.repeat.checked) this.toggle();
    this.show();
  }

  seek(to) {
    this.position = Math.min(this.seconds, Math.max(0, to));
    this.tracks.forEach(({ audio, usable }) => { if (usable) audio.currentTime = this.position; });
    this.show();
  }

  choose(index) {
    if (!this.tracks[index]) return;
    this.chosen = index;
    this.tracks.forEach(({ audio, pick }, at) => {
      audio.muted = at !== index;
      pick.setAttribute("aria-pressed", String(at === index));
    });
  }

  follow() {
    if (!this.playing) return;
    const { master } = this;
    this.position = master.audio.currentTime;
    for (const { audio, usable } of this.tracks) {
      if (usable && audio !== master.audio && Math.abs(audio.currentTime - this.position) > DRIFT_SECONDS
          && !audio.seeking) audio.currentTime = this.position;
    }
    this.show();
    requestAnimationFrame(() => this.follow());
  }

  show() {
    this.slider.value = this.position;
    this.clock.textContent = `${this.position.toFixed(1)} / ${this.seconds.toFixed(1)} s`;
    this.root.querySelectorAll(".head").forEach((head) => {
      head.style.left = `${(100 * this.position) / this.seconds}%`;
    });
  }
}

document.addEventListener("keydown", (event) => {
  const busy = event.target.closest?.("input:not([type=range]), select, textarea, summary");
  if (!active || !active.root.isConnected || busy || event.ctrlKey || event.altKey || event.metaKey) return;
  const onButton = event.target.closest?.("button, a");
  const count = active.tracks.length;
  if (event.key === " " && !onButton) active.toggle();
  else if (event.key >= "1" && event.key <= "9") active.choose(Number(event.key) - 1);
  else if (event.key === "ArrowDown") active.choose((active.chosen + 1) % count);
  else if (event.key === "ArrowUp") active.choose((active.chosen + count - 1) % count);
  else if (event.key === "ArrowLeft") active.seek(active.position - STEP_SECONDS);
  else if (event.key === "ArrowRight") active.seek(active.position + STEP_SECONDS);
  else return;
  event.preventDefault();
});
