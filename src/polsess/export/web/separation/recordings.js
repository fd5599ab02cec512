// The mixture of a recording's channels at a usual level, as polsess.inference.recordings makes it.
import { argmax, dot, round, sum } from "./numbers.js";

const TARGET_RMS = 2 ** -5, MOST_EXPONENT = 60, LEVEL_FRAME_SECONDS = 0.05, LEAST_OFFSET = 0.1;
const FEWEST_SAMPLES = 1000, CANCELLED = 0.1, ROUNDING = 1e-12;

// Equal weights; where channels cancel each other, those that oppose the loudest are inverted.
export function channelWeights(products, length) {
  const count = products.length, power = sum(products.map((row, k) => row[k])) / count;
  const total = sum(products.map(sum));
  if (length < FEWEST_SAMPLES || total / count ** 2 >= (CANCELLED * power) / count) return products.map(() => 1 / count);
  const loudest = argmax(products.map((row, k) => row[k]));
  return products[loudest].map((value) => (value < 0 ? -1 : 1) / count);
}

// Mean squares of short frames about their means, over all channels.
export function frameLevels(channels, rate) {
  const frame = Math.max(1, round(LEVEL_FRAME_SECONDS * rate)), count = Math.floor(channels[0].length / frame);
  const levels = new Float32Array(count);
  for (const samples of channels) {
    for (let l = 0; l < count; l++) {
      let total = 0, squares = 0;
      for (let i = l * frame; i < (l + 1) * frame; i++) total += samples[i];
      const mean = total / frame;
      for (let i = l * frame; i < (l + 1) * frame; i++) squares += (samples[i] - mean) ** 2;
      levels[l] += squares / frame / channels.length;
    }
  }
  return { levels, frameSeconds: frame / rate };
}

// `mixture` without offsets, in the place of the first channel; `gain`, a power of two that brings it to a usual level;
// `levels` of its frames.
export function prepare(channels, rate) {
  const length = channels[0].length, sums = channels.map(sum), count = channels.length;
  const products = channels.map(() => new Array(count));
  for (let a = 0; a < count; a++) for (let b = 0; b <= a; b++) products[a][b] = products[b][a] = dot(channels[a], channels[b]);
  const offsets = sums.map((total, k) => {
    const mean = total / length, deviation = Math.sqrt(Math.max(0, products[k][k] / length - mean * mean));
    return Math.abs(mean) > LEAST_OFFSET * deviation ? mean : 0;
  });
  const centred = products.map((row, a) => row.map((value, b) => {
    const left = value + length * offsets[a] * offsets[b] - offsets[a] * sums[b] - offsets[b] * sums[a];
    return Math.abs(left) <= ROUNDING * Math.sqrt(products[a][a] * products[b][b]) ? 0 : left;
  }));
  const weights = channelWeights(centred, length);
  const power = sum(centred.map((row, a) => weights[a] * dot(row, weights)));
  const rms = Math.sqrt(Math.max(0, power) / length);
  const exponent = rms > 0 ? round(Math.log2(TARGET_RMS / rms)) : 0;
  const gain = 2 ** Math.max(-MOST_EXPONENT, Math.min(MOST_EXPONENT, exponent)), levels = frameLevels(channels, rate);
  const mixture = channels[0];
  channels.forEach((samples, k) => {
    for (let i = 0; i < length; i++) mixture[i] = (k && mixture[i]) + weights[k] * (samples[i] - offsets[k]);
  });
  return { mixture, gain, ...levels };
}

export const scaled = (samples, gain) => samples.map((value) => value * gain);
