// Conversion of the sample rate by a windowed sinc: flat to 0.913 of the lower half rate, 120 dB down from that rate on.

const PASS = 0.913, ATTENUATION_DB = 120;

function bessel(x) { // modified, of the first kind and order 0
  let total = 1, term = 1;
  for (let k = 1; term > 1e-12 * total; k++) total += term *= (x / (2 * k)) ** 2;
  return total;
}

export function resampledLength(length, from, to) { return Math.ceil((length * to) / from); }

export function resample(samples, from, to) {
  if (from === to) return samples;
  const slower = Math.min(1, to / from), cutoff = (slower * (1 + PASS)) / 2; // in half rates of the input
  const width = Math.PI * slower * (1 - PASS), half = Math.ceil((ATTENUATION_DB - 8) / (2.285 * width) / 2);
  const beta = 0.1102 * (ATTENUATION_DB - 8.7), norm = bessel(beta);
  const kernel = (x) => {
    if (Math.abs(x) >= half) return 0;
    const angle = Math.PI * cutoff * x;
    return cutoff * (x === 0 ? 1 : Math.sin(angle) / angle) * (bessel(beta * Math.sqrt(1 - (x / half) ** 2)) / norm);
  };
  const phases = new Map(); // of the places of outputs between two inputs
  const converted = new Float32Array(resampledLength(samples.length, from, to));
  for (let n = 0; n < converted.length; n++) {
    const middle = Math.floor((n * from) / to), phase = (n * from) % to;
    let taps = phases.get(phase);
    if (!taps) phases.set(phase, taps = Float64Array.from({ length: 2 * half }, (_, i) => kernel(i + 1 - half - phase / to)));
    const first = Math.max(0, half - 1 - middle), last = Math.min(2 * half, samples.length - middle + half - 1);
    let total = 0;
    for (let i = first; i < last; i++) total += taps[i] * samples[middle + i + 1 - half];
    converted[n] = total;
  }
  return converted;
}
