// Separation only where several talk; what one says alone passes through, as polsess.inference.gated.
import { assignOutputs } from "./assignment.js";
import { cosines } from "./clustering.js";
import { compose } from "./composition.js";
import { LevelStatistics } from "./levels.js";
import { dot, listRuns, round, sum, unique } from "./numbers.js";
import { scaled } from "./recordings.js";
import { NOBODY, findChanges, findTurns, passedThrough, planPieces } from "./stretches.js";
import { listOverlaps, listSpeakers, sourceNames } from "./timelines.js";
import { listVoices } from "./voices.js";

const BESIDE_SECONDS = 0.3;

export async function separateGated(estimate, hearing, heard, recording, facts, numSpeakers, progress) {
  const { mixture, gain } = recording, samples = scaled(mixture, gain), config = facts.gate, { regions } = heard;
  const hop = regions.hopSeconds, rate = facts.sample_rate, seconds = samples.length / rate;
  const voices = await listVoices(hearing, heard, numSpeakers, config, (share) => progress(0.4 * share));
  const alone = voices.centroids.length < 2;
  let overlap = new Uint8Array(regions.overlap.length);
  if (!alone) {
    const several = heard.probabilities.map((row) => row[2] >= config.regions.overlap_off);
    const changes = findChanges(voices.who, regions.wideSpeech, several, round(config.change_seconds / hop));
    overlap = regions.unsure.map((on, l) => on | changes[l]);
    voices.who = voices.who.map((voice, l) => (overlap[l] ? NOBODY : voice));
  }
  const pieces = planPieces(overlap, voices.who, {
    context: round(config.context_seconds / hop),
    longest: Math.max(1, round(facts.segment_seconds / hop)),
    mostVoices: facts.names.length,
  });
  const separation = { estimate, hearing, samples, voices, rate, margin: round(2 * config.fade_seconds * rate) };
  const stretches = [];
  let swaps = 0, networkSamples = 0;
  for (const [index, piece] of pieces.entries()) {
    const found = await separatePiece(separation, piece);
    swaps += found.some(({ voices: order }) => order.some((voice, i) => i > 0 && voice < order[i - 1]));
    networkSamples += Math.min(hearing.sample(piece.last), samples.length) - hearing.sample(piece.first);
    stretches.push(...found);
    progress(0.4 + (0.6 * (index + 1)) / pieces.length);
  }
  progress(1);
  const several = regions.overlap.map((on, l) => on & overlap[l]);
  const turns = findTurns(
    regions.speech, several, voices.who, stretches.map((each) => each.energies), confidenceOf(heard, voices.certainty),
    voices.centroids.map((_, voice) => String(voice)), hop,
  );
  const inOrder = new Set([...listSpeakers(turns).map(Number), ...stretches.flatMap((each) => each.voices)]);
  const tracks = new Map([...inOrder].map((voice, track) => [voice, track]));
  const names = sourceNames(Math.max(facts.names.length, tracks.size));
  const named = turns.map((turn) => ({ ...turn, speaker: names[tracks.get(Number(turn.speaker))], end: Math.min(turn.end, seconds) }));
  return {
    tracks: compose(
      mixture, rate, names.length, passedStretches(alone, tracks, voices.who, overlap, config, hop, seconds),
      stretches.map((each) => ({ ...each, tracks: each.voices.map((voice) => tracks.get(voice)) })), 1 / gain, config.fade_seconds,
    ),
    timeline: {
      turns: named,
      whole: false,
      overlaps: listOverlaps(named),
      separated: stretches.map(({ start, end }) => [start, Math.min(end, seconds)]),
      networkSeconds: networkSamples / rate,
      swapsRepaired: swaps,
    },
  };
}

// The overlaps of a piece: their estimates, and the voice on each output.
async function separatePiece(separation, piece) {
  const { estimate, hearing, samples, voices, rate, margin } = separation;
  const begin = hearing.sample(piece.first), end = Math.min(hearing.sample(piece.last), samples.length);
  const mixture = samples.slice(begin, end), raw = await estimate(mixture);
  const levels = new LevelStatistics(raw.length, rate);
  levels.add(raw, mixture);
  const gains = levels.gains(), outputs = raw.map((row, c) => scaled(row, gains[c]));
  const stretches = [];
  for (const [first, last] of piece.overlaps) {
    const inner = Math.max(begin, hearing.sample(first) - margin), behind = Math.min(end, hearing.sample(last) + margin);
    const order = await assign(hearing, voices, rate, piece, [first, last], begin, outputs, mixture);
    stretches.push({
      energies: stretchEnergies(hearing, [first, last], begin, outputs, order),
      start: first * hearing.hopSeconds,
      end: last * hearing.hopSeconds,
      voices: order,
      first: inner,
      estimates: outputs.map((row) => row.slice(inner - begin, behind - begin)),
    });
  }
  return stretches;
}

// Who is how loud in an overlap, frame by frame.
function stretchEnergies(hearing, [first, last], begin, outputs, order) {
  const present = unique(order);
  const energies = present.map((voice) => Array.from({ length: last - first }, (_, l) => {
    const [from, to] = [first + l, first + l + 1].map((frame) => hearing.sample(frame) - begin);
    const parts = outputs.filter((_, c) => order[c] === voice).map((row) => row.subarray(from, to));
    return sum(parts.map((part) => dot(part, part)));
  }));
  return { frames: [first, last], voices: present, energies };
}

// The voice on each output, by who talks alone beside the overlap and by the embeddings within it.
async function assign(hearing, voices, rate, piece, overlap, begin, outputs, mixture) {
  const count = voices.centroids.length, correlations = outputs.map(() => new Array(count).fill(0));
  const seconds = new Array(count).fill(0), beside = round(BESIDE_SECONDS / hearing.hopSeconds);
  const cut = (row, runs) => joined(runs.map(([first, last]) => row.subarray(hearing.sample(first) - begin, hearing.sample(last) - begin)));
  const near = [Math.max(piece.first, overlap[0] - beside), Math.min(piece.last, overlap[1] + beside)];
  const talking = voices.who.slice(...near);
  for (const voice of unique(talking)) {
    const runs = listRuns(talking.map((each) => (each === voice ? 1 : 0))).map(([first, last]) => [near[0] + first, near[0] + last]);
    const solo = cut(mixture, runs), energy = dot(solo, solo);
    if (voice < 0 || !energy) continue;
    seconds[voice] = solo.length / rate;
    outputs.forEach((row, c) => { correlations[c][voice] = dot(cut(row, runs), solo) / energy; });
  }
  const embedded = [];
  for (const row of outputs) embedded.push(await hearing.embed(cut(row, [overlap])));
  return assignOutputs(correlations, seconds, cosines(embedded, voices.centroids));
}

function joined(parts) {
  const all = new Float32Array(parts.reduce((total, part) => total + part.length, 0));
  parts.reduce((at, part) => { all.set(part, at); return at + part.length; }, 0);
  return all;
}

function passedStretches(alone, tracks, who, overlap, config, hop, seconds) {
  if (alone) return tracks.size ? [{ start: 0, end: seconds, track: 0 }] : [];
  return passedThrough(who, overlap, round(config.bridge_seconds / hop))
    .filter(([, , voice]) => tracks.has(voice))
    .map(([first, last, voice]) => ({ start: first * hop, end: last * hop, track: tracks.get(voice) }));
}

function confidenceOf({ regions, probabilities }, certainty) {
  return Float32Array.from(probabilities, (row, l) => (regions.overlap[l] ? row[2] : (1 - row[0]) * certainty[l]));
}
