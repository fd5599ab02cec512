// Separation off the page's own thread: pieces through the network, joined, put at the levels of the mixture.
import * as ort from "./ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
ort.env.wasm.numThreads = 1;
let facts = null;
let session = null;

async function load() {
  if (!facts) facts = await (await fetch(new URL("./facts.json", import.meta.url))).json();
  if (!session) {
    const content = await (await fetch(new URL("./model.onnx", import.meta.url))).arrayBuffer();
    session = await ort.InferenceSession.create(new Uint8Array(content), { executionProviders: ["wasm"] });
  }
}

// A power of two that brings the sound to a usual level, after an offset is removed.
function prepare(samples) {
  const count = samples.length;
  let sum = 0, power = 0;
  for (const value of samples) { sum += value; power += value * value; }
  const mean = sum / count;
  const deviation = Math.sqrt(Math.max(0, power / count - mean * mean));
  const offset = Math.abs(mean) > 0.1 * deviation ? mean : 0;
  const rms = Math.sqrt(Math.max(0, power / count - 2 * offset * mean + offset * offset));
  const exponent = rms > 0 ? Math.max(-60, Math.min(60, Math.round(Math.log2(2 ** -5 / rms)))) : 0;
  const gain = 2 ** exponent;
  return { gain, ready: samples.map((value) => (value - offset) * gain) };
}

// Equal pieces as few as possible, as the Python separator plans them.
function plan(total, longest, overlap) {
  const count = (segment) => Math.max(1, Math.ceil((total - overlap) / (segment - overlap)));
  const pieces = count(longest);
  const segment = Math.max(2 * overlap, Math.ceil((total + (pieces - 1) * overlap) / pieces));
  const hop = segment - overlap;
  return Array.from({ length: count(segment) }, (_, index) => {
    const stop = Math.min(index * hop + segment, total);
    return { start: Math.max(0, stop - segment), keep: index * hop, stop, last: stop === total };
  });
}

function permutations(count) {
  if (count === 0) return [[]];
  return permutations(count - 1).flatMap((rest) =>
    Array.from({ length: count }, (_, place) => [...rest.slice(0, place), count - 1, ...rest.slice(place)]))
    .sort((a, b) => a.join() < b.join() ? -1 : 1);
}

function dot(a, b) { let sum = 0; for (let i = 0; i < a.length; i++) sum += a[i] * b[i]; return sum; }

async function estimate(piece) {
  const length = Math.max(piece.length, facts.minimum_samples);
  if (!piece.some((value) => value !== 0)) {
    return Array.from({ length: facts.names.length }, () => new Float32Array(piece.length));
  }
  const padded = new Float32Array(length);
  padded.set(piece);
  const tensor = new ort.Tensor("float32", padded, [1, length]);
  const { estimates } = await session.run({ samples: tensor });
  const sources = facts.names.map((_, c) => estimates.data.slice(c * length, c * length + piece.length));
  estimates.dispose();
  if (sources.some((source) => source.some((value) => !Number.isFinite(value)))) throw new Error("not-finite");
  return sources;
}

// Each piece in the order that best continues the one before on their overlap, cross-faded.
async function separate(samples) {
  const total = samples.length, longest = Math.round(facts.segment_seconds * facts.sample_rate);
  const overlap = Math.floor(0.25 * longest), orders = permutations(facts.names.length);
  const joined = facts.names.map(() => new Float32Array(total));
  for (const piece of plan(total, longest, overlap)) {
    let sources = await estimate(samples.slice(piece.start, piece.stop));
    sources = sources.map((source) => source.subarray(piece.keep - piece.start));
    const shared = piece.keep > 0 ? overlap : 0;
    if (shared && orders.length > 1) {
      const table = joined.map((before) => sources.map((source) =>
        dot(before.subarray(piece.keep, piece.keep + shared), source.subarray(0, shared))));
      const value = (order) => order.reduce((sum, source, track) => sum + table[track][source], 0);
      const best = orders.reduce((one, other) => value(other) > value(one) ? other : one);
      sources = best.map((source) => sources[source]);
    }
    joined.forEach((track, c) => {
      for (let i = 0; i < sources[c].length; i++) {
        const rise = i < shared ? Math.sin(0.5 * Math.PI * (i + 0.5) / shared) ** 2 : 1;
        track[piece.keep + i] = track[piece.keep + i] * (1 - rise) + sources[c][i] * rise;
      }
    });
    postMessage({ progress: piece.stop / total });
  }
  return joined;
}

// The gains with which the tracks best add up to the mixture, leaning towards one common gain.
function levels(tracks, mixture) {
  const gram = tracks.map((a) => tracks.map((b) => dot(a, b))), cross = tracks.map((a) => dot(a, mixture));
  const energy = gram.map((row, i) => row[i]), total = gram.flat().reduce((a, b) => a + b, 0);
  const all = energy.reduce((a, b) => a + b, 0), most = Math.max(...energy);
  const common = total > 1e-12 * all ? cross.reduce((a, b) => a + b, 0) / total : 0;
  const heard = energy.flatMap((value, i) => most > 0 && value > 1e-12 * most ? [i] : []);
  const gains = energy.map(() => common);
  const rows = heard.map((i) => [...heard.map((j) => gram[i][j] + (i === j ? 1e-3 * energy[i] : 0)),
    cross[i] + 1e-3 * energy[i] * common]);
  for (let i = 0; i < rows.length; i++) { // elimination; the matrix is positive definite
    for (let j = 0; j < rows.length; j++) {
      if (j === i) continue;
      const factor = rows[j][i] / rows[i][i];
      rows[j] = rows[j].map((value, k) => value - factor * rows[i][k]);
    }
  }
  heard.forEach((track, i) => { gains[track] = rows[i].at(-1) / rows[i][i]; });
  return gains;
}

function quantile(values, share) {
  const sorted = Float64Array.from(values).sort(), place = share * (sorted.length - 1), low = Math.floor(place);
  return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

// Frames of 20 ms in which each voice is above its noise and no leakage of another.
function activity(tracks) {
  const frame = Math.max(1, Math.round(0.02 * facts.sample_rate)), count = Math.floor(tracks[0].length / frame);
  if (!count) return tracks.map(() => []);
  const energy = tracks.map((track) => Array.from({ length: count }, (_, l) =>
    dot(track.subarray(l * frame, (l + 1) * frame), track.subarray(l * frame, (l + 1) * frame)) / frame));
  const sums = energy[0].map((_, l) => energy.reduce((sum, row) => sum + row[l], 0));
  const power = (decibels) => 10 ** (decibels / 10), loud = quantile(sums, 0.95);
  return energy.map((row) => {
    const noise = quantile(row, 0.1) * power(6);
    const floor = Math.min(Math.max(noise, loud * power(-30)), loud * power(-18));
    return row.map((value, l) => value > floor && value > Math.max(...energy.map((e) => e[l])) * power(-6));
  });
}

// Who begins first is first; voices that begin within a fifth of a second keep the network's order.
function order(active) {
  const onsets = active.map((row) => {
    let heard = 0;
    const place = row.findIndex((value) => (heard += value) >= 10);
    return place < 0 ? row.length : place;
  });
  const waiting = active.map((_, track) => track), sorted = [];
  while (waiting.length) {
    const begin = Math.min(...waiting.map((track) => onsets[track]));
    const next = waiting.findIndex((track) => onsets[track] <= begin + 10);
    sorted.push(...waiting.splice(next, 1));
  }
  return sorted;
}

onmessage = async ({ data }) => {
  try {
    await load();
    const begin = performance.now();
    const { gain, ready } = prepare(data.samples);
    let tracks = await separate(ready);
    const gains = levels(tracks, ready);
    tracks = tracks.map((track, c) => track.map((value) => value * gains[c]));
    let active = activity(tracks);
    const sorted = order(active);
    tracks = sorted.map((track) => tracks[track].map((value) => value / gain));
    active = sorted.map((track) => active[track]);
    const seconds = (performance.now() - begin) / 1000;
    postMessage({ tracks, active: tracks.length > 1 ? active : null, seconds });
  } catch (error) {
    postMessage({ error: String(error.message ?? error) });
  }
};
