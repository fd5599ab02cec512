// Separation of a recording at the network's rate, gated or whole, as polsess.inference.long_form.
import { separateGated } from "./gated.js";
import { Hearing } from "./hearing.js";
import { prepare, scaled } from "./recordings.js";
import { findRegions } from "./regions.js";
import { resample } from "./resampling.js";
import { separateWhole } from "./whole.js";

const HEARING_SHARE = 0.3;

// What it says is a key of words.js.
export class SeparationError extends Error {}

// channels: a Float32Array of each, at `rate`, taken over, so that their memory is given back. networks: separate, detect, embed and enhance, which take
// samples and promise rows of estimates, rows of probabilities, an embedding and samples. facts: what polsess export says of them.
// numSpeakers: the fewest and the most voices, or null to find out. Promises {mixture, tracks, timeline}.
export async function separate(channels, rate, networks, facts, { numSpeakers = null, progress = () => {} } = {}) {
  const recording = prepare(channels.splice(0), rate);
  if (!recording.mixture.every((value) => Number.isFinite(value))) throw new SeparationError("noNumbers");
  const mixture = recording.mixture = resample(recording.mixture, rate, facts.sample_rate);
  const estimate = (samples) => estimated(networks, facts, samples);
  if (!facts.detector) return { mixture, ...await separateWhole(estimate, recording, facts, progress) };
  const hearing = new Hearing(networks, facts);
  const cleared = await hearing.clear(scaled(mixture, recording.gain), (share) => progress(HEARING_SHARE * 0.6 * share));
  const probabilities = await hearing.activity(cleared, (share) => progress(HEARING_SHARE * (0.6 + 0.4 * share)));
  const regions = findRegions(probabilities, hearing.hopSeconds, facts.gate.regions);
  const later = (share) => progress(HEARING_SHARE + (1 - HEARING_SHARE) * share);
  const voices = numSpeakers ?? facts.num_speakers;
  if (isWhole(regions, voices[0], facts)) return { mixture, ...await separateWhole(estimate, recording, facts, later, regions) };
  return { mixture, ...await separateGated(estimate, hearing, { probabilities, regions, cleared }, recording, facts, voices, later) };
}

// Whether too little is said alone to know the voices by, so that the network separates everything.
export function isWhole(regions, fewest, { gate, names }) {
  const several = regions.overlap.some((on) => on), alone = regions.speech.some((on, l) => on && !regions.overlap[l]);
  if (!alone && several) return true;
  const speech = regions.speech.reduce((sum, on) => sum + Number(on), 0) * regions.hopSeconds;
  const little = speech * (1 - regions.expectedOverlap) < gate.solo_seconds * regions.expectedOverlap;
  return several && little && fewest <= names.length && regions.expectedOverlap >= gate.whole_from;
}

// Digital silence needs no network.
async function estimated(networks, facts, samples) {
  if (!samples.some((value) => value !== 0)) return facts.names.map(() => new Float32Array(samples.length));
  const estimates = await networks.separate(samples);
  for (const row of estimates) {
    for (let i = 0; i < row.length; i++) if (!Number.isFinite(row[i])) throw new SeparationError("notFinite");
  }
  return estimates;
}
