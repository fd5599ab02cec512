// Pieces of a recording for the network, as polsess.inference.segments plans them.
import { listRuns, round } from "./numbers.js";

const SILENT_DB = -40, LONG_SILENCE_SECONDS = 3, MARGIN_SECONDS = 0.5;

// Equal segments that share `overlap` samples; the last begins earlier and drops what it has too much.
export function listSegments(length, segment, overlap) {
  const hop = segment - overlap;
  return Array.from({ length: countSegments(length, segment, overlap) }, (_, index) => {
    const keep = index * hop, stop = Math.min(keep + segment, length);
    return { start: Math.max(0, stop - segment), keep, stop, last: stop === length };
  });
}

const countSegments = (length, segment, overlap) => Math.max(1, Math.ceil((length - overlap) / (segment - overlap)));

// As few segments as possible, none longer than `longest`, and those as short as they may be.
function balanced(length, longest, overlap) {
  const count = countSegments(length, longest, overlap);
  const shortest = Math.ceil((length + (count - 1) * overlap) / count);
  return listSegments(length, Math.max(2 * overlap, shortest), overlap);
}

// Long silences in seconds, without the margins that stay with the sound.
export function findSilences(levels, frameSeconds) {
  if (!levels.length) return [];
  const loud = Float32Array.from(levels).sort()[Math.floor(0.95 * (levels.length - 1))];
  if (!(loud > 0)) return [];
  const quiet = Array.from(levels, (level) => level <= loud * 10 ** (SILENT_DB / 10));
  return listRuns(quiet)
    .filter(([first, last]) => (last - first) * frameSeconds >= LONG_SILENCE_SECONDS)
    .map(([first, last]) => [
      first * frameSeconds + (first ? MARGIN_SECONDS : 0),
      last * frameSeconds - (last < levels.length ? MARGIN_SECONDS : 0),
    ]);
}

// The segments of a recording; none reaches from a silence into sound.
export function planSegments(length, longest, overlap, silences = []) {
  const edges = [0, ...silences.flat(), length], segments = [];
  for (let index = 0; index + 1 < edges.length; index++) {
    const [first, last] = edges.slice(index, index + 2);
    if (first >= last) continue;
    for (const each of balanced(last - first, longest, overlap)) {
      segments.push({
        start: first + each.start, keep: first + each.keep, stop: first + each.stop, last: each.last, silent: index % 2 === 1,
      });
    }
  }
  return segments;
}

export function planRecording(length, rate, { levels, frameSeconds }, segmentSeconds, overlapShare) {
  const longest = Math.max(2, round(segmentSeconds * rate)), overlap = Math.floor(overlapShare * longest);
  const silences = findSilences(levels, frameSeconds)
    .map(([begin, end]) => [round(begin * rate), Math.min(round(end * rate), length)]);
  return { overlap, segments: planSegments(length, longest, overlap, silences) };
}
