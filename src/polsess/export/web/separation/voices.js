// Whose every stretch of one voice is, as polsess.inference.voices.
import { compareSteps, decodeVoices } from "./assignment.js";
import { cosines, findCentroids, findVoices } from "./clustering.js";
import { largest, sum } from "./numbers.js";
import { cutPieces, cutSteps } from "./regions.js";
import { labelFrames } from "./stretches.js";

const ROUNDS = 4, VOICE_SPREAD = 0.1;

// `who` says what is said alone, `centroids` are the voices, `certainty` is how sure each frame is.
export async function listVoices(hearing, heard, [fewest, most], config, progress) {
  if (heard.regions.sureOverlap >= config.least_overlap) fewest = Math.min(Math.max(fewest, 2), most);
  const voices = await tellVoices(hearing, heard, [fewest, most], config, progress);
  if (voices.centroids.length === 1 && most > 1 && heard.regions.overlapShare >= config.unheard_voice_overlap) {
    voices.centroids.push(new Float32Array(voices.centroids[0].length)); // it never talks alone
  }
  return voices;
}

async function tellVoices(hearing, { regions, probabilities, cleared }, numSpeakers, config, progress) {
  const numFrames = probabilities.length, hop = regions.hopSeconds;
  const pieces = cutPieces(regions, probabilities, config.regions);
  if (!pieces.length) return { who: labelFrames([], [], numFrames), centroids: [], certainty: new Float32Array(numFrames) };
  let embeddings = await hearing.embedPieces(cleared, pieces, (part) => progress(0.4 * part));
  const seconds = pieces.map(([first, last]) => (last - first) * hop);
  const several = pieces.map(([first, last]) => sum(probabilities.slice(first, last).map((row) => row[2])) / (last - first));
  const pauses = pieces.slice(1).map(([first], i) => (first - pieces[i][1]) * hop);
  const heard = { embeddings, seconds, pauses, several };
  let centroids = findVoices(heard, numSpeakers, regions.sureOverlap, config.same_voice, config.same_voice_asked);
  for (let i = 0; i < ROUNDS; i++) {
    const labels = decodeVoices(cosines(embeddings, centroids), pieces, hop);
    if (new Set(labels).size === centroids.length) centroids = findCentroids(embeddings, seconds, labels);
  }
  const { steps, windows } = cutSteps(regions, pieces, config.regions);
  let done = 0;
  const similarities = await compareSteps(steps, centroids.length, async (places) => {
    const report = (part) => progress(0.4 + (0.6 * (done + part * places.length)) / windows.length);
    embeddings = await hearing.embedPieces(cleared, places.map((place) => windows[place]), report);
    done += places.length;
    return cosines(embeddings, centroids);
  });
  const labels = decodeVoices(similarities, steps, hop);
  const certainty = new Float32Array(numFrames).fill(1);
  steps.forEach(([first, last], i) => {
    const most = largest(similarities[i]), likely = similarities[i].map((value) => Math.exp((value - most) / VOICE_SPREAD));
    certainty.fill(likely[labels[i]] / sum(likely), first, last);
  });
  return { who: labelFrames(steps, labels, numFrames), centroids, certainty };
}
