"use strict";
// Players whose signals all run at once, one of them audible: switching keeps the place to the sample.
(() => {
  const FADE_SECONDS = 0.004;
  const BEFORE_ERROR_SECONDS = 0.5;
  const players = [];
  let context = null;
  let active = null;

  const decode = (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return context.decodeAudioData(bytes.buffer);
  };

  class Player {
    constructor(root) {
      this.root = root;
      this.seconds = Number(root.dataset.seconds);
      this.picks = [...root.querySelectorAll(".pick")];
      this.heads = [...root.querySelectorAll(".head")];
      this.button = root.querySelector(".play");
      this.slider = root.querySelector(".seek");
      this.time = root.querySelector(".time");
      this.repeat = root.querySelector(".repeat");
      this.position = 0;
      this.chosen = 0;
      this.voices = null;
      this.button.addEventListener("click", () => this.toggle());
      this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
      this.picks.forEach((pick, index) => pick.addEventListener("click", () => this.choose(index)));
      root.querySelectorAll(".track .picture").forEach((picture, index) =>
        picture.addEventListener("click", (event) => {
          this.choose(index);
          this.seek(this.place(picture, event));
        }));
      root.querySelectorAll(".lane .picture").forEach((picture) =>
        picture.addEventListener("click", (event) => this.seek(this.place(picture, event))));
      this.errors = JSON.parse(root.dataset.errors || "[]");
      root.querySelectorAll(".step").forEach((step) =>
        step.addEventListener("click", () => this.step(Number(step.value))));
      root.addEventListener("pointerdown", () => activate(this));
      root.addEventListener("focusin", () => activate(this));
    }

    async load() {
      context ??= new AudioContext();
      if (context.state === "suspended") await context.resume();
      if (!this.buffers) {
        const sounds = JSON.parse(this.root.querySelector(".sounds").textContent);
        this.buffers = await Promise.all(sounds.map(decode));
      }
    }

    async toggle() {
      activate(this);
      if (this.voices) return this.stop();
      players.forEach((other) => other !== this && other.stop());
      this.button.disabled = true;
      try {
        await this.load();
        this.start();
      } catch (error) {
        this.time.textContent = `cannot be played: ${error.message}`;
      } finally {
        this.button.disabled = false;
      }
    }

    start() {
      if (this.position >= this.seconds - 0.01) this.position = 0;
      const begin = context.currentTime + 0.02;
      this.voices = this.buffers.map((buffer, index) => {
        const source = new AudioBufferSourceNode(context, { buffer });
        const gain = new GainNode(context, { gain: index === this.chosen ? 1 : 0 });
        source.connect(gain).connect(context.destination);
        source.start(begin, this.position);
        return { source, gain };
      });
      this.origin = begin - this.position;
      this.button.textContent = "Pause";
      this.follow();
    }

    stop() {
      if (!this.voices) return;
      this.position = this.now();
      this.silence();
      this.show();
    }

    silence() {
      this.voices.forEach(({ source }) => source.stop());
      this.voices = null;
      this.button.textContent = "Play";
    }

    now() {
      const at = this.voices ? context.currentTime - this.origin : this.position;
      return Math.min(this.seconds, Math.max(0, at));
    }

    seek(to) {
      const playing = this.voices !== null;
      if (playing) this.silence();
      this.position = Math.min(this.seconds, Math.max(0, to));
      if (playing) this.start();
      this.show();
    }

    place(picture, event) {
      const box = picture.getBoundingClientRect();
      return ((event.clientX - box.left) / box.width) * this.seconds;
    }

    // Seek a little before the next or the previous error of any system.
    step(direction) {
      const now = this.now() + BEFORE_ERROR_SECONDS;
      const there = this.errors.filter((error) => direction * (error - now) > 0.05);
      if (there.length) this.seek(there.at(direction > 0 ? 0 : -1) - BEFORE_ERROR_SECONDS);
    }

    choose(index) {
      if (index < 0 || index >= this.picks.length) return;
      this.chosen = index;
      this.picks.forEach((pick, at) => pick.setAttribute("aria-pressed", String(at === index)));
      this.voices?.forEach(({ gain }, at) =>
        gain.gain.setTargetAtTime(at === index ? 1 : 0, context.currentTime, FADE_SECONDS));
    }

    follow() {
      if (!this.voices) return;
      if (this.now() >= this.seconds) {
        this.silence();
        this.position = 0;
        if (this.repeat.checked) this.start();
      }
      this.show();
      if (this.voices) requestAnimationFrame(() => this.follow());
    }

    show() {
      const at = this.now();
      this.slider.value = at;
      this.time.textContent = `${at.toFixed(1)} / ${this.seconds.toFixed(1)} s`;
      this.heads.forEach((head) => { head.style.left = `${(100 * at) / this.seconds}%`; });
    }
  }

  const activate = (player) => {
    active = player;
    players.forEach((each) => each.root.classList.toggle("active", each === player));
  };

  const actions = {
    " ": (player) => player.toggle(),
    ArrowLeft: (player) => player.seek(player.now() - 1),
    ArrowRight: (player) => player.seek(player.now() + 1),
    ArrowUp: (player) => player.choose(player.chosen - 1),
    ArrowDown: (player) => player.choose(player.chosen + 1),
    e: (player) => player.step(1),
    E: (player) => player.step(-1),
  };

  document.addEventListener("keydown", (event) => {
    if (!active || event.ctrlKey || event.metaKey || event.altKey) return;
    const inside = active.root.contains(event.target) || event.target === document.body;
    if (!inside || event.target.matches(".repeat")) return;
    const digit = /^[1-9]$/.test(event.key) ? Number(event.key) : 0;
    if (digit) active.choose(digit - 1);
    else if (actions[event.key]) actions[event.key](active);
    else return;
    event.preventDefault();
  });

  document.querySelectorAll(".player").forEach((root) => players.push(new Player(root)));
})();
