// What becomes of each stretch of a conversation, as polsess.diarization.stretches. `who` is a voice per frame, or -1.
import { argmax, evenEdges, listRuns, round, unique } from "./numbers.js";
import { JOIN_SECONDS, sortedTimeline } from "./timelines.js";

export const NOBODY = -1;
const LEVEL_SECONDS = 0.18, NEAREST_DB = 12, SILENT_DB = 24;

export function labelFrames(pieces, labels, numFrames) {
  const who = new Int32Array(numFrames).fill(NOBODY);
  pieces.forEach(([first, last], i) => who.fill(labels[i], first, last));
  return who;
}

// Frames of speech around places where another voice takes over without a longer pause, if several may talk there.
export function findChanges(who, speech, several, reach) {
  const changes = new Uint8Array(who.length);
  let end = -1;
  for (let begin = 0; begin < who.length; begin++) {
    if (who[begin] === NOBODY) continue;
    if (end >= 0 && who[end] !== who[begin] && begin - end <= reach) {
      const around = [Math.max(0, end + 1 - reach), begin + reach];
      if (several.slice(...around).some(Boolean)) changes.fill(1, ...around);
    }
    end = begin;
  }
  return changes.map((on, l) => on & speech[l]);
}

// Stretches of one voice as [first, last, voice]; its short pauses pass through with it.
export function passedThrough(who, overlap, longestPause) {
  const stretches = [];
  for (const voice of unique(who.filter((each) => each !== NOBODY))) {
    const [start, ...runs] = listRuns(who.map((each) => (each === voice ? 1 : 0)));
    const joined = [start];
    for (const [first, last] of runs) {
      const [before, end] = joined.at(-1);
      let free = first - end <= longestPause;
      for (let l = end; free && l < first; l++) free = who[l] === NOBODY && !overlap[l];
      if (free) joined[joined.length - 1] = [before, last];
      else joined.push([first, last]);
    }
    stretches.push(...joined.map(([first, last]) => [first, last, voice]));
  }
  return stretches.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
}

// Overlaps with context on both sides, in pieces for the network: {first, last, overlaps}.
export function planPieces(overlap, who, { context, longest, mostVoices }) {
  const room = Math.max(1, longest - 2 * context), pieces = [];
  for (const [first, last] of listRuns(overlap)) {
    const edges = evenEdges(first, last, Math.ceil((last - first) / room));
    for (let i = 0; i + 1 < edges.length; i++) {
      const piece = withContext([edges[i], edges[i + 1]], who, context, mostVoices), before = pieces.at(-1);
      const voices = new Set([...(before?.voices ?? []), ...piece.voices]);
      if (before && piece.first <= before.last && piece.last - before.first <= longest && voices.size <= mostVoices) {
        pieces[pieces.length - 1] = { first: before.first, last: piece.last, overlaps: [...before.overlaps, ...piece.overlaps], voices };
      } else pieces.push(piece);
    }
  }
  return pieces;
}

function withContext(run, who, context, mostVoices) {
  let [first, last] = run;
  const voices = new Set(), going = [true, true];
  for (let i = 0; i < context; i++) { // to both sides by turns, so that the nearest voices come first
    [first - 1, last].forEach((frame, side) => {
      const inside = frame >= 0 && frame < who.length, voice = inside ? who[frame] : NOBODY;
      const known = voice === NOBODY || voices.has(voice);
      going[side] &&= inside && voices.size + (known ? 0 : 1) <= mostVoices;
      if (!going[side]) return;
      if (voice !== NOBODY) voices.add(voice);
      if (side === 0) first--;
      else last++;
    });
  }
  return { first, last, overlaps: [run], voices };
}

// The turns of all voices; speech of one voice beyond the known frames is of the nearest known one, and in separated stretches of
// the loudest estimate: {frames, voices, energies}.
export function findTurns(speech, overlap, who, separated, confidence, names, hopSeconds) {
  const active = names.map(() => new Uint8Array(speech.length)), known = [];
  who.forEach((voice, l) => { if (voice !== NOBODY) known.push(l); });
  let after = 0;
  for (let l = 0; known.length && l < speech.length; l++) {
    while (after < known.length && known[after] < l) after++;
    if (!speech[l] || overlap[l]) continue;
    const next = known[Math.min(after, known.length - 1)];
    const before = known[Math.max(0, Math.min(after, known.length - 1) - 1)];
    active[who[Math.abs(before - l) <= Math.abs(next - l) ? before : next]][l] = 1;
  }
  for (const { frames: [first, last], voices, energies } of separated) {
    const levels = energies.map((row) => levelsOf(row, round(LEVEL_SECONDS / hopSeconds / 2)));
    for (let l = first; l < last; l++) {
      const each = levels.map((row) => row[l - first]), least = Math.max(...each) - SILENT_DB;
      const loudest = argmax(each.map((level, i) => level + (active[voices[i]][l] ? NEAREST_DB : 0)));
      active.forEach((row) => { row[l] = 0; });
      voices.forEach((voice, i) => { active[voice][l] = Number(overlap[l] ? each[i] >= least : speech[l] && i === loudest); });
    }
  }
  return sortedTimeline(active.flatMap((row, voice) => listRuns(row).map(([first, last]) => {
    let total = 0;
    for (let l = first; l < last; l++) total += confidence[l];
    return {
      start: first * hopSeconds, end: last * hopSeconds, speaker: names[voice],
      confidence: Math.round((1000 * total) / (last - first)) / 1000,
    };
  })), JOIN_SECONDS);
}

// Levels in dB over so many frames on either side, as far as there are any.
function levelsOf(energies, reach) {
  const sums = [0];
  for (const energy of energies) sums.push(sums.at(-1) + energy);
  return energies.map((_, l) => 10 * Math.log10(Math.max(sums[Math.min(l + reach + 1, energies.length)] - sums[Math.max(l - reach, 0)], 1e-12)));
}
