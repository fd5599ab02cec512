// Gains with which the estimates add up to the mixture, and who is heard when, as polsess.inference.levels.
import { decibels, dot, largest, quantile, round, solve, sum } from "./numbers.js";

const RIDGE = 1e-3, SILENT = 1e-12, FRAME_SECONDS = 0.02, ONSET_FRAMES = 10;
const AUDIBLE_DB = -30, CLEAR_DB = -18, ABOVE_NOISE_DB = 6, LEAKAGE_DB = -6;

export class LevelStatistics {
  constructor(numSources, rate) {
    this.frame = Math.max(1, round(FRAME_SECONDS * rate));
    this.gram = Array.from({ length: numSources }, () => new Array(numSources).fill(0));
    this.cross = new Array(numSources).fill(0);
    this.energies = Array.from({ length: numSources }, () => []);
  }

  get numFrames() { return this.energies[0].length; }

  add(sources, mixture) {
    sources.forEach((one, i) => {
      for (let j = 0; j <= i; j++) {
        const product = dot(one, sources[j]);
        this.gram[i][j] += product;
        if (i !== j) this.gram[j][i] += product;
      }
      this.cross[i] += dot(one, mixture);
      this.energies[i].push(...frameEnergies(one, this.frame));
    });
  }

  // Takes up other statistics with their sources in an order of their own.
  addInOrder(other, order) {
    order.forEach((source, i) => {
      order.forEach((second, j) => { this.gram[i][j] += other.gram[source][second]; });
      this.cross[i] += other.cross[source];
      this.energies[i] = this.energies[i].concat(other.energies[source]);
    });
  }

  gains() { return levelGains(this.gram, this.cross); }

  // For each source the frame in which its voice has clearly begun.
  onsets() {
    if (!this.numFrames) return this.energies.map(() => 0);
    const gains = this.gains();
    const energy = this.energies.map((row, i) => Float32Array.from(row, (value) => value * gains[i] ** 2));
    return activeFrames(energy).map((row) => {
      let heard = 0, place = 0;
      while (place < row.length && (heard += row[place]) < ONSET_FRAMES) place++;
      return place;
    });
  }
}

export function frameEnergies(samples, frame) {
  return Array.from({ length: Math.floor(samples.length / frame) }, (_, l) => {
    let total = 0;
    for (let i = l * frame; i < (l + 1) * frame; i++) total += samples[i] ** 2;
    return Math.fround(total / frame);
  });
}

// Frames in which a voice is above the steady noise of its output and no leakage of another voice.
export function activeFrames(energy) {
  const count = energy[0].length, sums = new Float64Array(count), most = new Float64Array(count);
  for (const row of energy) {
    for (let l = 0; l < count; l++) { sums[l] += row[l]; most[l] = Math.max(most[l], row[l]); }
  }
  const loud = quantile(sums, 0.95);
  return energy.map((row) => {
    const noise = quantile(row, 0.1) * decibels(ABOVE_NOISE_DB);
    const floor = Math.min(Math.max(noise, loud * decibels(AUDIBLE_DB)), loud * decibels(CLEAR_DB));
    return Uint8Array.from(row, (value, l) => value > Math.max(floor, most[l] * decibels(LEAKAGE_DB)));
  });
}

// Least squares that leans towards one common gain.
export function levelGains(gram, cross) {
  const energy = gram.map((row, i) => row[i]), total = sum(gram.map(sum)), most = largest(energy);
  const common = total > SILENT * sum(energy) ? sum(cross) / total : 0;
  const gains = energy.map(() => common);
  const heard = energy.flatMap((value, i) => (value > SILENT * most ? [i] : []));
  if (heard.length && most > 0) {
    const matrix = heard.map((i) => heard.map((j) => gram[i][j] + (i === j ? RIDGE * energy[i] : 0)));
    const found = solve(matrix, heard.map((i) => cross[i] + RIDGE * energy[i] * common));
    heard.forEach((source, i) => { gains[source] = found[i]; });
  }
  return gains;
}
