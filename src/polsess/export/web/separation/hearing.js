// The networks that say who speaks when, run over a recording block by block, as polsess.inference.hearing.
import { quantile, round } from "./numbers.js";
import { resample } from "./resampling.js";

const BLOCK_SECONDS = 15, MARGIN_SECONDS = 2, SILENT_DB = -50, SHORTEST_SECONDS = 0.3, CLEARED = 0.7;

export class Hearing {
  // `networks.detect`, `networks.embed` and `networks.enhance` take samples at the rates in `facts`.
  constructor(networks, facts) {
    Object.assign(this, { networks, facts, rate: facts.sample_rate, hopSeconds: facts.detector.hop_seconds });
  }

  sample(frame) { return round(frame * this.hopSeconds * this.rate); }

  numFrames(numSamples) { return Math.max(1, Math.ceil(numSamples / this.rate / this.hopSeconds)); }

  // Frames from `first` on, heard from `begin` on with what comes before and after them.
  * blocks(samples) {
    const count = this.numFrames(samples.length);
    const [block, margin] = [BLOCK_SECONDS, MARGIN_SECONDS].map((seconds) => round(seconds / this.hopSeconds));
    for (let first = 0; first < count; first += block) {
      const last = Math.min(first + block, count), begin = Math.max(0, first - margin);
      const part = samples.slice(this.sample(begin), Math.min(this.sample(last + margin), samples.length));
      yield { first, last, begin, part, share: last / count };
    }
  }

  // The recording as the others hear it, with less of noise and rooms.
  async clear(samples, progress) {
    if (!this.facts.enhancer) return samples;
    const cleared = samples.slice(), rate = this.facts.enhancer.sample_rate;
    for (const { first, last, begin, part, share } of this.blocks(samples)) {
      const noise = resample(part, this.rate, rate).slice(), speech = await this.networks.enhance(noise);
      for (let i = 0; i < noise.length; i++) noise[i] -= speech[i];
      const takenOut = resample(noise, rate, this.rate), offset = this.sample(begin);
      const stop = Math.min(this.sample(last), samples.length, offset + takenOut.length);
      for (let i = this.sample(first); i < stop; i++) cleared[i] -= CLEARED * takenOut[i - offset];
      progress(share);
    }
    return cleared;
  }

  // Rows of the probabilities of nobody, one and several, in what `clear` gives.
  async activity(samples, progress) {
    const probabilities = [], energies = new Float32Array(this.numFrames(samples.length));
    for (const { first, last, begin, part, share } of this.blocks(samples)) {
      const heard = await this.networks.detect(resample(part, this.rate, this.facts.detector.sample_rate));
      for (let l = first; l < last; l++) {
        probabilities.push(heard[l - begin] ?? [1, 0, 0]);
        const stop = Math.min(this.sample(l + 1), samples.length);
        for (let i = this.sample(l); i < stop; i++) energies[l] += samples[i] ** 2;
      }
      progress(share);
    }
    const silent = quantile(energies, 0.95) * 10 ** (SILENT_DB / 10);
    return probabilities.map((row, l) => (energies[l] <= silent ? [1, 0, 0] : row));
  }

  // The embeddings of stretches of frames; the last frame may reach beyond the recording.
  async embedPieces(samples, pieces, progress) {
    const embeddings = [];
    for (const [first, last] of pieces) {
      const piece = new Float32Array(this.sample(last) - this.sample(first));
      piece.set(samples.subarray(this.sample(first), Math.min(this.sample(last), samples.length)));
      embeddings.push(await this.embed(piece));
      progress(embeddings.length / pieces.length);
    }
    return embeddings;
  }

  async embed(samples) {
    const shortest = round(SHORTEST_SECONDS * this.rate);
    if (!samples.length) samples = new Float32Array(shortest);
    if (samples.length < shortest) {
      const repeated = new Float32Array(samples.length * Math.ceil(shortest / samples.length));
      for (let at = 0; at < repeated.length; at += samples.length) repeated.set(samples, at);
      samples = repeated;
    }
    return this.networks.embed(resample(samples, this.rate, this.facts.embedder.sample_rate));
  }
}
