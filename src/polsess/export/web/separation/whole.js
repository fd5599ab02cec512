// Separation of all of a recording, segment by segment, as polsess.inference.whole.
import { activeFrames, frameEnergies } from "./levels.js";
import { round } from "./numbers.js";
import { scaled } from "./recordings.js";
import { planRecording } from "./segments.js";
import { Stitcher } from "./stitching.js";
import { JOIN_SECONDS, listOverlaps, sortedTimeline, sourceNames, turnsOf } from "./timelines.js";

const FRAME_SECONDS = 0.02, LOUDER_SECONDS = 0.3;

// regions: how many talk, or null where nobody listened for it.
export async function separateWhole(estimate, recording, facts, progress, regions = null) {
  const { mixture, gain } = recording, rate = facts.sample_rate, length = mixture.length;
  const { segments, overlap } = planRecording(length, rate, recording, facts.segment_seconds, facts.overlap);
  const stitcher = new Stitcher(facts.names.length, overlap, rate);
  let heard = 0;
  for (const { start, keep, stop, last, silent } of segments) {
    const piece = scaled(mixture.subarray(start, stop), gain), estimates = await estimate(piece);
    if (piece.some((value) => value !== 0)) heard += stop - start;
    stitcher.push(estimates.map((row) => row.subarray(keep - start)), piece.subarray(keep - start), last, silent);
    progress(stop / length);
  }
  const { tracks, swaps } = stitcher.finish();
  for (const track of tracks) for (let i = 0; i < length; i++) track[i] /= gain;
  return { tracks, timeline: timelineOf(tracks, rate, heard / rate, swaps, regions) };
}

function timelineOf(tracks, rate, networkSeconds, swapsRepaired, regions) {
  if (tracks.length === 1) return null;
  const frame = Math.max(1, round(FRAME_SECONDS * rate)), energy = tracks.map((track) => frameEnergies(track, frame));
  const active = energy[0].length ? whoTalks(energy, regions, frame / rate) : energy;
  const turns = sortedTimeline(turnsOf(active, sourceNames(tracks.length), frame / rate), JOIN_SECONDS);
  const seconds = tracks[0].length / rate;
  return { turns, whole: true, overlaps: listOverlaps(turns), separated: [[0, seconds]], networkSeconds, swapsRepaired };
}

// Where one talks it is whose track is loudest, where several do these are the two loudest at least. Without regions a track is active where it is loud,
// and louder than what may leak onto it.
function whoTalks(energy, regions, frameSeconds) {
  const loud = activeFrames(energy);
  if (!regions) return loud.map((row, c) => row.map((on, l) => on & (energy[c][l] > 0)));
  const half = round(LOUDER_SECONDS / frameSeconds / 2), near = energy.map((row) => sumsAround(row, half));
  return energy.map((row, c) => Uint8Array.from(row, (value, l) => {
    const place = Math.min(Math.trunc(((l + 0.5) * frameSeconds) / regions.hopSeconds), regions.speech.length - 1);
    const rank = near.filter((other, o) => other[l] > near[c][l] || (other[l] === near[c][l] && o < c)).length;
    return value > 0 && (regions.overlap[place] ? rank < 2 || loud[c][l] : regions.speech[place] && rank === 0);
  }));
}

function sumsAround(row, half) {
  return Float64Array.from(row, (_, l) => {
    let total = 0;
    for (let k = Math.max(0, l - half); k <= Math.min(row.length - 1, l + half); k++) total += row[k];
    return total;
  });
}
