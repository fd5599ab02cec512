// Joining the estimates of overlapping segments, every speaker kept on one output, as polsess.inference.stitching.
import { LevelStatistics } from "./levels.js";
import { dot } from "./numbers.js";
import { CepstralFrames, SpeakerProfile, inOrderOfOnset, orderStretches, twoBestOrders } from "./profiles.js";

const LEAST_SPEECH_SHARE = 0.03, LEAST_MARGIN = 0.2;

export class Stitcher {
  constructor(numSources, overlap, rate) {
    Object.assign(this, { numSources, overlap, rate, loudLevel: 0, threshold: 0, tail: null, stretches: [], blocks: [], length: 0 });
    this.fade = Float32Array.from({ length: overlap }, (_, i) => Math.sin((0.5 * Math.PI * (i + 0.5)) / overlap) ** 2);
  }

  // Adds a segment that begins with the last `overlap` samples of the one before.
  push(estimates, mixture, last = false, silent = false) {
    const order = this.tail && this.orderOf(estimates);
    const fades = Math.min(this.overlap, estimates[0].length);
    let stored = null; // where a stretch begins, the head that is faded in
    if (order) {
      estimates = order.map((source, track) => {
        const samples = estimates[source].slice(), tail = this.tail[track];
        for (let i = 0; i < fades; i++) samples[i] = tail[i] + this.fade[i] * (samples[i] - tail[i]);
        return samples;
      });
    } else {
      if (this.tail) {
        this.put(this.tail.map((row) => row.map((value, i) => value * (1 - this.fade[i]))), this.length);
        stored = estimates.map((row) => row.map((value, i) => (i < fades ? value * this.fade[i] : value)));
      }
      this.stretches.push({
        levels: new LevelStatistics(this.numSources, this.rate),
        voices: estimates.map(() => new SpeakerProfile()),
      });
    }
    if (!silent) this.profile(estimates);
    const end = estimates[0].length - (last ? 0 : this.overlap);
    this.stretches.at(-1).levels.add(estimates.map((row) => row.subarray(0, end)), mixture.subarray(0, end));
    this.put((stored ?? estimates).map((row) => row.slice(0, end)), this.length);
    this.length += end;
    this.tail = last ? null : estimates.map((row) => row.slice(end));
  }

  // The speakers at the mixture's level, and how many stretches the network gave in another order.
  finish() {
    const orders = orderStretches(this.stretches.map((stretch) => stretch.voices));
    const levels = new LevelStatistics(this.numSources, this.rate);
    this.stretches.forEach((stretch, index) => levels.addInOrder(stretch.levels, orders[index]));
    const onsets = levels.onsets(), gains = levels.gains();
    const speakers = inOrderOfOnset(onsets, orders[this.stretchOfFrame(Math.min(...onsets))]);
    const sorted = orders.map((order) => speakers.map((speaker) => order[speaker]));
    const tracks = speakers.map(() => new Float32Array(this.length));
    for (let block = this.blocks.shift(); block; block = this.blocks.shift()) { // memory is given back as it goes
      tracks.forEach((track, i) => {
        const samples = block.rows[sorted[block.stretch][i]], gain = gains[speakers[i]];
        for (let t = 0; t < samples.length; t++) track[block.start + t] += samples[t] * gain;
      });
    }
    return { tracks, swaps: sorted.filter((order) => order.join() !== sorted[0].join()).length };
  }

  stretchOfFrame(frame) {
    let end = 0;
    const place = this.stretches.findIndex((stretch) => frame < (end += stretch.levels.numFrames));
    return Math.max(0, place);
  }

  put(rows, start) {
    this.blocks.push({ rows, start, stretch: this.stretches.length - 1 });
  }

  profile(estimates) {
    if (estimates.length === 1) return;
    const frames = new CepstralFrames(estimates, this.rate);
    this.loudLevel = Math.max(this.loudLevel, frames.loudLevel());
    this.threshold = frames.speechThreshold(this.loudLevel);
    frames.spoken(this.threshold).forEach((cepstra, i) => this.stretches.at(-1).voices[i].add(cepstra));
  }

  // The order that continues the segment before, or null if that is not certain.
  orderOf(estimates) {
    if (estimates.length === 1) return [0];
    const head = estimates.map((row) => row.subarray(0, this.overlap)), tail = this.tail;
    const loudness = Float32Array.from(head[0], (_, i) => {
      let total = 0;
      for (let c = 0; c < head.length; c++) total += tail[c][i] ** 2 + head[c][i] ** 2;
      return 0.5 * total;
    });
    if (!this.somebodySpeaks(loudness)) return null;
    const audible = (rows) => rows.flatMap((row, i) => (row.some((value) => value !== 0) ? [i] : []));
    const before = audible(tail), now = audible(head), fewer = now.length < before.length;
    const total = loudness.reduce((all, value) => all + value, 0);
    const [few, many] = fewer ? [now, before] : [before, now], [rows, columns] = fewer ? [head, tail] : [tail, head];
    const scores = few.map((i) => many.map((j) => dot(rows[i], columns[j]) / total));
    const [best, second] = twoBestOrders(scores);
    if (best.total - (second?.total ?? 0) < LEAST_MARGIN) return null;
    const place = new Map(best.order.map((j, i) => (fewer ? [many[j], few[i]] : [few[i], many[j]])));
    const rest = head.map((_, i) => i).filter((i) => ![...place.values()].includes(i)); // silent here or there
    return head.map((_, i) => (place.has(i) ? place.get(i) : rest.shift()));
  }

  somebodySpeaks(loudness) {
    const frame = Math.max(1, Math.floor(this.rate / 50)), count = Math.floor(loudness.length / frame);
    let speech = 0;
    for (let l = 0; l < count; l++) {
      let total = 0;
      for (let i = l * frame; i < (l + 1) * frame; i++) total += loudness[i];
      speech += total / frame > this.threshold;
    }
    return count > 0 && speech / count >= LEAST_SPEECH_SHARE;
  }
}
