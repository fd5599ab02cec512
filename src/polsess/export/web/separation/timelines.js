// Turns of speakers, in seconds, as polsess.timelines: {start, end, speaker, confidence}.
import { listRuns } from "./numbers.js";

export const JOIN_SECONDS = 0.2;
const compare = (a, b) => a.start - b.start || a.end - b.end || (a.speaker < b.speaker ? -1 : a.speaker > b.speaker ? 1 : 0);

// By start; turns of one speaker with shorter pauses than `joinSeconds` are one.
export function sortedTimeline(turns, joinSeconds = 0) {
  const last = new Map(), done = [];
  for (const turn of [...turns].sort(compare)) {
    const before = last.get(turn.speaker);
    if (before && turn.start <= before.end + joinSeconds) {
      last.set(turn.speaker, joined(before, turn));
      continue;
    }
    if (before) done.push(before);
    last.set(turn.speaker, turn);
  }
  return [...done, ...last.values()].sort(compare);
}

function joined(first, second) {
  const [long, short] = [first.end - first.start, second.end - second.start];
  const confidence = first.confidence == null || second.confidence == null
    ? null : (first.confidence * long + second.confidence * short) / (long + short);
  return { start: first.start, end: Math.max(first.end, second.end), speaker: first.speaker, confidence };
}

export const listSpeakers = (timeline) => [...new Set(timeline.map((turn) => turn.speaker))];

export function turnsOf(active, speakers, hopSeconds) {
  return active.flatMap((row, index) => listRuns(row).map(([first, last]) =>
    ({ start: first * hopSeconds, end: last * hopSeconds, speaker: speakers[index], confidence: null }))).sort(compare);
}

// Start and end of every stretch in which several talk.
export function listOverlaps(timeline) {
  const edges = timeline.flatMap((turn) => [[turn.start, 1], [turn.end, -1]]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const stretches = [];
  let talking = 0, begin = 0;
  for (const [time, change] of edges) {
    if (talking === 1 && change === 1) begin = time;
    else if (talking === 2 && change === -1 && time > begin) stretches.push([begin, time]);
    talking += change;
  }
  return stretches;
}

export const sourceNames = (count) => (count === 1 ? ["speech"] : Array.from({ length: count }, (_, i) => `speaker${i + 1}`));

// The lines of an RTTM file.
export function toRttm(timeline, recording) {
  const name = recording.trim().split(/\s+/u).join("_") || "recording";
  return timeline.map(({ start, end, speaker, confidence }) =>
    `SPEAKER ${name} 1 ${start.toFixed(3)} ${(end - start).toFixed(3)} <NA> <NA> ${speaker} `
    + `${confidence == null ? "<NA>" : confidence.toFixed(3)} <NA>\n`).join("");
}
