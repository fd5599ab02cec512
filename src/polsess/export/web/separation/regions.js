// From the scores of frames to regions in which nobody, one or several talk, as polsess.diarization.regions.
// Probabilities are rows of nobody, one and several; masks are arrays of 0 and 1.
import { evenEdges, listRuns, round, sum } from "./numbers.js";

const SURE = 0.9;

export function findRegions(probabilities, hopSeconds, config) {
  const frames = (seconds) => round(seconds / hopSeconds);
  const join = frames(config.join_seconds), shortest = frames(config.shortest_seconds);
  const talk = probabilities.map((row) => Math.fround(1 - row[0])), several = probabilities.map((row) => row[2]);
  const speech = smooth(hysteresis(talk, config.speech_on, config.speech_off), join, shortest);
  const overlap = smooth(several.map((score) => score >= config.overlap_on), join, shortest);
  overlap.forEach((on, l) => { if (on) speech[l] = 1; });
  const wideSpeech = widen(speech, frames(config.speech_pad_seconds));
  const reach = containing(several.map((score, l) => score >= config.overlap_off || overlap[l]), overlap);
  const pad = frames(config.overlap_pad_seconds);
  const [wideOverlap, unsure] = [widen(overlap, pad), widen(reach, 2 * pad)].map((mask) => mask.map((on, l) => on & wideSpeech[l]));
  const spoken = sum(speech);
  return {
    speech, overlap, wideSpeech, wideOverlap, unsure, hopSeconds,
    solo: wideSpeech.map((on, l) => on & (1 - wideOverlap[l])),
    overlapShare: sum(overlap) / Math.max(1, spoken),
    sureOverlap: sum(several.map((score) => (score >= SURE ? 1 : 0))) / Math.max(1, spoken),
    expectedOverlap: spoken ? Math.min(1, sum(several) / sum(talk)) : 0,
  };
}

// Solo regions cut where speech pauses, and where they would be too long.
export function cutPieces(regions, probabilities, config) {
  const longest = Math.max(1, round(config.longest_piece_seconds / regions.hopSeconds)), pieces = [];
  for (const [first, last] of listRuns(regions.solo)) {
    const pauses = probabilities.slice(first, last).map((row) => row[0] > 0.5);
    const inner = listRuns(pauses)
      .filter(([begin, end]) => begin > 0 && first + end < last)
      .map(([begin, end]) => first + Math.floor((begin + end) / 2));
    const edges = [first, ...inner, last];
    for (let i = 0; i + 1 < edges.length; i++) {
      const cuts = evenEdges(edges[i], edges[i + 1], Math.ceil((edges[i + 1] - edges[i]) / longest));
      for (let j = 0; j + 1 < cuts.length; j++) pieces.push([cuts[j], cuts[j + 1]]);
    }
  }
  return pieces;
}

// Pieces in short steps, and around each the window from which its voice is told.
export function cutSteps(regions, pieces, config) {
  const step = Math.max(1, round(config.step_seconds / regions.hopSeconds));
  const reach = Math.max(1, round(config.window_seconds / 2 / regions.hopSeconds));
  const runs = listRuns(regions.solo), steps = [], windows = [];
  for (const [first, last] of pieces) {
    const [lowest, highest] = runs.find(([begin, end]) => begin <= first && first < end);
    const cuts = evenEdges(first, last, Math.max(1, round((last - first) / step)));
    for (let i = 0; i + 1 < cuts.length; i++) {
      const [begin, end] = [cuts[i], cuts[i + 1]], middle = Math.floor((begin + end) / 2);
      steps.push([begin, end]);
      windows.push([Math.max(lowest, middle - reach), Math.min(highest, Math.max(end, middle + reach))]);
    }
  }
  return { steps, windows };
}

function hysteresis(scores, on, off) {
  return containing(scores.map((score) => score >= off), scores.map((score) => score >= on));
}

// Runs of active frames of which some are in `inner`.
function containing(active, inner) {
  const kept = new Uint8Array(active.length);
  for (const [first, last] of listRuns(active)) kept.fill(inner.slice(first, last).some(Boolean) ? 1 : 0, first, last);
  return kept;
}

function smooth(active, shortestGap, shortestRun) {
  const smoothed = Uint8Array.from(active);
  for (const [first, last] of listRuns(smoothed.map((on) => 1 - on))) {
    if (last - first < shortestGap && first > 0 && last < active.length) smoothed.fill(1, first, last);
  }
  for (const [first, last] of listRuns(smoothed)) if (last - first < shortestRun) smoothed.fill(0, first, last);
  return smoothed;
}

function widen(active, frames) {
  const widened = active.slice();
  for (const [first, last] of listRuns(active)) widened.fill(1, Math.max(0, first - frames), last + frames);
  return widened;
}
