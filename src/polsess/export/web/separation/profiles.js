// One Gaussian of cepstra per voice, and the orders of outputs derived from them, as polsess.inference.profiles.
import { decibels, logDeterminant, permutations, quantile, round, sum } from "./numbers.js";
import { Fourier, hannWindow } from "./spectra.js";

const CEPSTRA = 12, BANDS = 24, LOWEST_HZ = 80, HIGHEST_HZ = 7600, WINDOW_SECONDS = 0.032;
const SPEECH_RANGE_DB = 25, ABOVE_NOISE_DB = 6, DOMINANCE_DB = 3;
const SHRINKAGE_FRAMES = 50, VARIANCE_FLOOR = 0.01, MOST_ROUNDS = 10, TOGETHER_FRAMES = 10;
const PARAMETERS = (CEPSTRA * (CEPSTRA + 3)) / 2, PENALTY = 0.5;

export class CepstralFrames {
  constructor(sources, rate) {
    const length = 2 * round((WINDOW_SECONDS * rate) / 2), hop = length / 2, fourier = new Fourier(length);
    const window = hannWindow(length), norm = Math.sqrt(sum(window.map((value) => value * value)));
    const bands = melBands(length, rate), count = Math.floor((Math.max(sources[0].length, length) - length) / hop) + 1;
    const frame = new Float64Array(length), power = new Float64Array(length / 2 + 1);
    this.energy = sources.map(() => new Float32Array(count));
    this.cepstra = sources.map((samples, source) => {
      const levels = Array.from({ length: count }, (_, l) => {
        for (let i = 0; i < length; i++) frame[i] = ((samples[l * hop + i] ?? 0) * window[i]) / norm;
        fourier.power(frame, power);
        this.energy[source][l] = sum(power) / power.length;
        return bands.map(({ first, weights }) => {
          let total = 0;
          for (let i = 0; i < weights.length; i++) total += weights[i] * power[first + i];
          return total;
        });
      });
      const floor = 1e-6 * levels.reduce((most, row) => Math.max(most, ...row), 1e-20);
      return levels.map((row) => toCepstra(row.map((value) => Math.log(value + floor))));
    });
    this.sums = Float64Array.from({ length: count }, (_, l) => sum(this.energy.map((row) => row[l])));
  }

  loudLevel() { return quantile(this.sums, 0.95); }

  // Lowest energy of a frame of speech: near that of loud speech, and well above steady noise.
  speechThreshold(loudLevel) {
    const noise = quantile(this.sums, 0.1);
    const aboveNoise = Math.min(noise * decibels(ABOVE_NOISE_DB), loudLevel * decibels(-ABOVE_NOISE_DB));
    return Math.max(loudLevel * decibels(-SPEECH_RANGE_DB), aboveNoise);
  }

  // The cepstra of the frames of each output that hold its speaker's voice.
  spoken(threshold) {
    return this.cepstra.map((rows, source) => rows.filter((_, l) => {
      const energy = this.energy[source][l];
      return energy > threshold && energy > (this.sums[l] - energy) * decibels(DOMINANCE_DB);
    }));
  }
}

// Mean and covariance of the cepstra of one voice.
export class SpeakerProfile {
  constructor() {
    this.numFrames = 0;
    this.sum = new Float64Array(CEPSTRA);
    this.products = new Float64Array(CEPSTRA * CEPSTRA);
  }

  add(cepstra) {
    this.numFrames += cepstra.length;
    for (const row of cepstra) {
      for (let i = 0; i < CEPSTRA; i++) {
        this.sum[i] += row[i];
        for (let j = 0; j < CEPSTRA; j++) this.products[i * CEPSTRA + j] += row[i] * row[j];
      }
    }
  }

  combined(other, sign) {
    const result = new SpeakerProfile();
    result.numFrames = this.numFrames + sign * other.numFrames;
    result.sum = this.sum.map((value, i) => value + sign * other.sum[i]);
    result.products = this.products.map((value, i) => value + sign * other.products[i]);
    return result;
  }

  // Number of the frames times the log-determinant of their covariance.
  spread() {
    if (this.numFrames === 0) return 0;
    const count = this.numFrames, weight = count / (count + SHRINKAGE_FRAMES);
    const matrix = Array.from({ length: CEPSTRA }, (_, i) => Array.from({ length: CEPSTRA }, (_, j) => {
      const covariance = this.products[i * CEPSTRA + j] / count - (this.sum[i] / count) * (this.sum[j] / count);
      return i === j ? covariance + VARIANCE_FLOOR : weight * covariance;
    }));
    return count * logDeterminant(matrix);
  }
}

// The two orders with the largest sums of scores[i][order[i]], the best first.
export function twoBestOrders(scores) {
  const totals = permutations(scores[0]?.length ?? 0, scores.length)
    .map((order) => ({ total: order.reduce((all, j, i) => all + scores[i][j], 0), order }));
  return totals.sort((a, b) => b.total - a.total).slice(0, 2);
}

// Puts the outputs of every stretch in the order that keeps each speaker on one of them.
export function orderStretches(stretches) {
  const orders = stretches.map((voices) => voices.map((_, i) => i));
  const content = stretches.map((voices) => {
    const frames = voices.map((voice) => voice.numFrames);
    return [Math.min(...frames), sum(frames)];
  });
  const spoken = stretches.flatMap((_, index) => (content[index][1] ? [index] : []));
  if (!spoken.length) return orders;
  spoken.sort((a, b) => content[b][0] - content[a][0] || content[b][1] - content[a][1]);
  let speakers = stretches[spoken[0]];
  for (const index of spoken.slice(1)) {
    orders[index] = bestOrder(speakers, stretches[index]);
    speakers = joined(speakers, stretches[index], orders[index]);
  }
  for (let round_ = 0; round_ < MOST_ROUNDS; round_++) {
    const before = JSON.stringify(orders);
    for (const index of spoken) {
      const voices = stretches[index];
      const others = speakers.map((speaker, i) => speaker.combined(voices[orders[index][i]], -1));
      orders[index] = bestOrder(others, voices);
      speakers = joined(others, voices, orders[index]);
    }
    if (JSON.stringify(orders) === before) break;
  }
  return orders;
}

// The speakers in the order in which they begin; voices that begin together keep the order of their places.
export function inOrderOfOnset(onsets, places) {
  const waiting = onsets.map((_, speaker) => speaker).sort((a, b) => places[a] - places[b]), order = [];
  while (waiting.length) {
    const begin = Math.min(...waiting.map((speaker) => onsets[speaker]));
    const next = waiting.findIndex((speaker) => onsets[speaker] <= begin + TOGETHER_FRAMES);
    order.push(...waiting.splice(next, 1));
  }
  return order;
}

const joined = (speakers, voices, order) => speakers.map((speaker, i) => speaker.combined(voices[order[i]], 1));

function bestOrder(speakers, voices) {
  let best = null, least = Infinity;
  for (const order of permutations(voices.length)) {
    const value = cost(joined(speakers, voices, order));
    if (best === null || value < least) [best, least] = [order, value];
  }
  return best;
}

// Of describing the frames by one Gaussian per speaker.
function cost(speakers) {
  const total = sum(speakers.map((speaker) => speaker.numFrames));
  const penalty = PENALTY * PARAMETERS * Math.log(Math.max(total, 2));
  return sum(speakers.map((speaker) => (speaker.numFrames ? speaker.spread() + penalty : 0)));
}

// Triangular bands over the bins that they touch.
function melBands(length, rate) {
  const highest = Math.min(HIGHEST_HZ, (0.975 * rate) / 2), toMel = (hz) => 2595 * Math.log10(1 + hz / 700);
  const low = toMel(Math.min(LOWEST_HZ, highest / 2)), high = toMel(highest);
  const edges = Array.from({ length: BANDS + 2 }, (_, i) => 700 * (10 ** ((low + (i * (high - low)) / (BANDS + 1)) / 2595) - 1));
  return Array.from({ length: BANDS }, (_, band) => {
    const [left, centre, right] = edges.slice(band, band + 3);
    const all = Array.from({ length: length / 2 + 1 }, (_, bin) => {
      const hz = (bin * rate) / length;
      return Math.fround(Math.max(0, Math.min((hz - left) / (centre - left), (right - hz) / (right - centre))));
    });
    const first = Math.max(0, all.findIndex((weight) => weight > 0));
    const last = all.findLastIndex((weight) => weight > 0);
    return { first, weights: all.slice(first, last + 1) };
  });
}

const COSINES = Array.from({ length: CEPSTRA }, (_, i) => Float32Array.from({ length: BANDS }, (_, band) =>
  Math.cos((Math.PI / BANDS) * (i + 1) * (band + 0.5)) * Math.sqrt(2 / BANDS)));

function toCepstra(logarithms) {
  return COSINES.map((row) => {
    let total = 0;
    for (let i = 0; i < BANDS; i++) total += row[i] * logarithms[i];
    return total;
  });
}
