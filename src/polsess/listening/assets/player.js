
"use strict";
const FADE_SECONDS = 0.01;

/* All sounds of a trial run together and only their gains change, so that switching keeps the position. */
const player = {
  context: null, buffers: {}, sources: {}, selected: null, playing: false,
  loop: true, region: [0, 0], duration: 0, offset: 0, startedAt: 0,

  async load(wavs) {
    this.stop();
    this.context ??= new AudioContext();
    this.buffers = {};
    for (const [name, wav] of Object.entries(wavs)) {
      const bytes = Uint8Array.from(atob(wav), (character) => character.charCodeAt(0));
      this.buffers[name] = await this.context.decodeAudioData(bytes.buffer);
    }
    this.duration = Math.min(...Object.values(this.buffers).map((buffer) => buffer.duration));
    Object.assign(this, { region: [0, this.duration], offset: 0, selected: Object.keys(wavs)[0] });
  },
  start(offset = this.offset) {
    this.halt();
    this.context.resume();
    const [from, to] = this.region;
    this.offset = offset < from || offset >= to - 0.01 ? from : offset;
    this.startedAt = this.context.currentTime + 0.02;
    for (const [name, buffer] of Object.entries(this.buffers)) {
      const gain = new GainNode(this.context, { gain: name === this.selected ? 1 : 0 });
      const source = new AudioBufferSourceNode(this.context, { buffer, loop: this.loop, loopStart: from, loopEnd: to });
      source.connect(gain).connect(this.context.destination);
      if (this.loop) source.start(this.startedAt, this.offset);
      else source.start(this.startedAt, this.offset, to - this.offset);
      source.onended = () => { if (this.sources[name]?.source === source) this.stop(from); };
      this.sources[name] = { source, gain: gain.gain };
    }
    this.playing = true;
  },
  halt() {
    const running = Object.values(this.sources);
    this.sources = {};
    for (const { source } of running) { source.onended = null; source.stop(); }
  },
  stop(offset = this.position()) {
    this.halt();
    Object.assign(this, { playing: false, offset });
  },
  toggle() { this.playing ? this.stop() : this.start(); },
  select(name) {
    this.selected = name;
    if (!this.playing) return this.start();
    const now = this.context.currentTime;
    for (const [other, { gain }] of Object.entries(this.sources)) {
      gain.cancelScheduledValues(now);
      gain.setValueAtTime(gain.value, now);
      gain.linearRampToValueAtTime(other === name ? 1 : 0, now + FADE_SECONDS);
    }
  },
  position() {
    if (!this.playing) return this.offset;
    const [from, to] = this.region;
    const place = this.offset + Math.max(0, this.context.currentTime - this.startedAt);
    return place < to ? place : this.loop ? from + ((place - from) % (to - from)) : to;
  },
  move(offset) { this.playing ? this.start(offset) : (this.offset = offset); },
  setRegion(from, to) {
    const place = this.position();
    this.region = to - from < 0.1 ? [0, this.duration] : [from, to];
    this.move(Math.min(Math.max(place, this.region[0]), this.region[1]));
  },
  setLoop(loop) { const place = this.position(); this.loop = loop; this.move(place); },
};
