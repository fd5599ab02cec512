// Sounds of one length that play in step; one of them is heard.
const STARTED_MS = 4000;

export class Player {
  // `onSilence` is called where the browser does not play: it has no output, or may not use it.
  constructor(onChange, onSilence) {
    Object.assign(this, { onChange, onSilence, context: null, buffers: [], parts: null, place: 0, chosen: 0, length: 0 });
  }

  // Takes the sounds over: each is given back when it is copied.
  load(sounds, rate) {
    this.pause();
    this.buffers = [];
    for (let samples = sounds.shift(); samples; samples = sounds.shift()) {
      const buffer = new AudioBuffer({ length: samples.length, sampleRate: rate, numberOfChannels: 1 });
      buffer.copyToChannel(samples, 0);
      this.buffers.push(buffer);
    }
    Object.assign(this, { place: 0, chosen: 0, length: this.buffers[0]?.duration ?? 0 });
  }

  get isPlaying() { return this.parts !== null; }

  get now() {
    if (!this.isPlaying) return this.place;
    return Math.min(this.length, this.from + Math.max(0, this.context.currentTime - this.at));
  }

  samples(index) { return this.buffers[index].getChannelData(0); }

  play() {
    if (!this.buffers.length || this.isPlaying) return;
    this.context ??= new AudioContext();
    this.context.resume();
    this.starting = setTimeout(() => {
      if (this.context.state === "running") return;
      this.pause();
      this.onSilence();
    }, STARTED_MS);
    if (this.place >= this.length - 0.05) this.place = 0;
    this.from = this.place;
    this.at = this.context.currentTime + 0.02; // one start for all
    this.parts = this.buffers.map((buffer, index) => {
      const source = this.context.createBufferSource(), gain = this.context.createGain();
      source.buffer = buffer;
      gain.gain.value = index === this.chosen ? 1 : 0;
      source.connect(gain).connect(this.context.destination);
      source.start(this.at, this.from);
      return { source, gain };
    });
    const tick = () => {
      if (!this.isPlaying) return;
      if (this.now >= this.length) this.pause();
      this.onChange();
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
    this.onChange();
  }

  pause() {
    if (!this.isPlaying) return;
    this.place = this.now;
    clearTimeout(this.starting);
    this.parts.forEach(({ source }) => source.stop());
    this.parts = null;
    this.onChange();
  }

  toggle() { if (this.isPlaying) this.pause(); else this.play(); }

  move(seconds) {
    const playing = this.isPlaying;
    this.pause();
    this.place = Math.max(0, Math.min(this.length, seconds));
    if (playing && this.place < this.length) this.play();
    this.onChange();
  }

  choose(index) {
    if (index >= this.buffers.length) return;
    this.chosen = index;
    this.parts?.forEach(({ gain }, other) => gain.gain.setTargetAtTime(other === index ? 1 : 0, this.context.currentTime, 0.01));
    this.onChange();
  }
}
