// Tracks made of what passes through and of estimates that are faded in, as polsess.inference.composition.
import { round } from "./numbers.js";

// `passed` holds {start, end, track} in seconds, `separated` {start, end, tracks, first, estimates}.
export function compose(mixture, rate, numTracks, passed, separated, gain, fadeSeconds) {
  const fade = Math.max(1, round((fadeSeconds * rate) / 2)); // to either side of an edge
  const tracks = Array.from({ length: numTracks }, () => new Float32Array(mixture.length));
  const rise = (distance) => Math.sin(0.5 * Math.PI * Math.min(1, Math.max(0, 0.5 + (0.5 * distance) / fade))) ** 2;
  const add = (track, { start, end }, samples, offset, factor) => {
    const first = round(start * rate), last = round(end * rate), opens = first > 0, closes = last < mixture.length;
    const stop = closes ? Math.min(mixture.length, last + fade) : mixture.length;
    for (let i = opens ? Math.max(0, first - fade) : 0; i < stop; i++) {
      const loud = (opens ? rise(i + 0.5 - first) : 1) * (closes ? rise(last - i - 0.5) : 1);
      track[i] += loud * factor * (samples[i - offset] ?? 0);
    }
  };
  for (const each of passed) add(tracks[each.track], each, mixture, 0, 1);
  for (const each of separated) {
    each.tracks.forEach((track, output) => add(tracks[track], each, each.estimates[output], each.first, gain));
  }
  return tracks;
}
