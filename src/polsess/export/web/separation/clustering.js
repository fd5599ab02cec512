// Which pieces of speech are of one voice, and how many voices there are, as polsess.diarization.clustering.
import { argmax, dot, evenEdges, largest, round, sum, unique } from "./numbers.js";

const ALIKE = [0.8, 0.6, 0.4], MOST_CANDIDATES = 500, CANDIDATES = 12, FIRST_ROUNDS = 3, ROUNDS = 30, FINALISTS = 6, KEPT = 3;
const ALIKE_PENALTY = 0.1, TAKEOVER_PENALTY = 0.1, SAME_WORTH = 1e-8, MOST_PIECES = 2000, USUAL_COSINE = 0.45, USUAL_PAIRS = 6;
const SMALLEST_SECONDS = 3, SMALLEST_SHARE = 0.015, SHARE_OF_SHORT = 0.1;
const SHARE_WEIGHT = 0.27, SEVERAL_WEIGHT = 2.5, CHANGE_WEIGHT = 1, OVERLAP_WEIGHT = 0.1, FEW_VOICES = 3;
const NO_PAUSE_SECONDS = 0.1, FEW_OVERLAPS = 0.001, USUAL_OVERLAP = 0.004;

// The unit centroids of the voices in pieces: unit `embeddings`, `seconds`, `pauses` between one and the next, and
// how probably `several` talk.
export function findVoices(pieces, [fewest, most], sureOverlap, sameVoice, sameVoiceAsked) {
  let found = null;
  for (const centroids of listPartitions(pieces, most)) {
    const labels = nearestVoices(pieces.embeddings, centroids);
    if (new Set(labels).size < centroids.length) break;
    const alike = likenessOf(pieces.embeddings, pieces.seconds, labels);
    const asked = centroids.length <= fewest && pairs(alike.length).every(([i, j]) => alike[i][j] <= sameVoiceAsked);
    const apart = asked || toldApart(pieces, labels, alike, sureOverlap, sameVoice);
    if (!found || apart) found = centroids;
  }
  return found;
}

const pairs = (count) => Array.from({ length: count }, (_, i) => i).flatMap((i) =>
  Array.from({ length: count - i - 1 }, (_, j) => [i, i + 1 + j]));

// Whether any two voices are surely two.
function toldApart({ seconds, pauses, several }, labels, alike, sureOverlap, sameVoice) {
  const heard = alike.map(() => 0), probable = alike.map(() => 0), total = sum(seconds);
  labels.forEach((label, n) => {
    heard[label] += seconds[n];
    probable[label] += seconds[n] * several[n];
  });
  const least = Math.min(Math.max(SMALLEST_SECONDS, SMALLEST_SHARE * total), SHARE_OF_SHORT * total);
  if (heard.some((length) => length < least)) return false;
  const evidence = heard.length === 2 ? OVERLAP_WEIGHT * Math.log((sureOverlap + FEW_OVERLAPS) / USUAL_OVERLAP) : 0;
  return pairs(heard.length).every(([i, j]) => {
    const smaller = heard[j] < heard[i] ? j : i;
    let both = 0, changed = 0.5;
    pauses.forEach((pause, n) => {
      if (pause > NO_PAUSE_SECONDS || ![labels[n], labels[n + 1]].every((label) => label === i || label === j)) return;
      both += 1;
      changed += labels[n] === labels[n + 1] ? 0 : 1;
    });
    const limit = sameVoice + evidence + SHARE_WEIGHT * Math.log((Math.max(heard.length, FEW_VOICES) * heard[smaller]) / total);
    return alike[i][j] <= limit - SEVERAL_WEIGHT * (probable[smaller] / heard[smaller]) - (CHANGE_WEIGHT * changed) / (both + 1);
  });
}

// The centroids of one voice, of two and so on, while there are pieces for further ones.
export function* listPartitions({ embeddings, seconds, pauses }, most) {
  let atOnce = pauses.map((pause) => pause <= NO_PAUSE_SECONDS);
  if (embeddings.length > MOST_PIECES) {
    const kept = evenEdges(0, embeddings.length - 1, MOST_PIECES - 1);
    [embeddings, seconds] = [kept.map((i) => embeddings[i]), kept.map((i) => seconds[i])];
    atOnce = kept.slice(1).map((i, n) => i === kept[n] + 1 && atOnce[kept[n]]);
  }
  const pieces = { embeddings: embeddings.map(normalised), seconds, atOnce };
  let partitions = [settle(pieces, meanDirections(pieces.embeddings, seconds, embeddings.map(() => 0)), 1)];
  const best = () => partitions[0].centroids.map((row) => Float32Array.from(row));
  yield best();
  if (most < 2) return;
  const groups = joinByAverage(embeddings, ALIKE).flatMap((labels) => timedDirections(pieces.embeddings, seconds, labels));
  const candidates = groups.sort((a, b) => b.seconds - a.seconds).slice(0, MOST_CANDIDATES).map((each) => each.direction);
  const likely = cosines(pieces.embeddings, candidates);
  for (let count = 1; count < Math.min(most, candidates.length); count++) {
    const grown = partitions.flatMap(({ centroids }) => {
      const explained = cosines(pieces.embeddings, centroids).map(largest), gains = candidates.map(() => 0);
      likely.forEach((row, n) => row.forEach((value, g) => { gains[g] += seconds[n] * Math.max(value - explained[n], 0); }));
      const tried = gains.map((_, g) => g).sort((g, h) => gains[h] - gains[g]).slice(0, CANDIDATES);
      return tried.map((g) => settle(pieces, [...centroids, candidates[g]], FIRST_ROUNDS));
    });
    const settled = bestOf(grown, FINALISTS).map(({ centroids }) => settle(pieces, centroids, ROUNDS));
    partitions = bestOf(settled, KEPT);
    yield best();
  }
}

// K-means from given centroids: how good the partition is, and the centroids.
function settle({ embeddings, seconds, atOnce }, centroids, numRounds) {
  let labels = null;
  for (let i = 0; i < numRounds; i++) {
    const nearest = nearestVoices(embeddings, centroids);
    if (labels?.every((label, n) => label === nearest[n]) || new Set(nearest).size < centroids.length) break;
    labels = nearest;
    centroids = meanDirections(embeddings, seconds, labels);
  }
  const similar = cosines(embeddings, centroids);
  labels = similar.map(argmax);
  if (new Set(labels).size < centroids.length) return { worth: -Infinity, centroids };
  let worth = sum(similar.map((row, n) => seconds[n] * largest(row))) / sum(seconds);
  if (centroids.length > 1) {
    const alike = likenessOf(embeddings, seconds, labels);
    const takenOver = atOnce.filter((here, n) => here && labels[n] !== labels[n + 1]).length;
    worth -= ALIKE_PENALTY * largest(pairs(alike.length).map(([i, j]) => alike[i][j]));
    worth -= (TAKEOVER_PENALTY * takenOver) / (atOnce.filter(Boolean).length + 1);
  }
  return { worth, centroids };
}

// At most so many partitions, each once, the best first.
function bestOf(partitions, most) {
  const distinct = new Map();
  for (const each of partitions) {
    const place = round(each.worth / SAME_WORTH);
    if (!distinct.has(place)) distinct.set(place, each);
  }
  return [...distinct.keys()].sort((a, b) => (a < b ? 1 : -1)).slice(0, most).map((place) => distinct.get(place));
}

export const cosines = (embeddings, centroids) => embeddings.map((one) => centroids.map((other) => dot(one, other)));

const nearestVoices = (embeddings, centroids) => cosines(embeddings, centroids).map(argmax);

function normalised(row) {
  const norm = Math.max(Math.sqrt(dot(row, row)), 1e-12);
  return Float64Array.from(row, (value) => value / norm);
}

// Groups of pieces, the two most alike joined until no two have a mean cosine above a threshold, for falling thresholds.
export function joinByAverage(embeddings, thresholds) {
  const count = embeddings.length;
  const exact = embeddings.map(normalised);
  const alike = exact.map((one, i) => Float64Array.from(exact, (other, j) => (i === j ? -Infinity : dot(one, other))));
  const groups = exact.map((_, i) => i), sizes = exact.map(() => 1);
  const nearest = alike.map(argmax), likeness = alike.map((row, i) => row[nearest[i]]);
  return thresholds.map((threshold) => {
    while (largest(likeness) >= threshold) {
      const first = argmax(likeness), second = nearest[first], size = sizes[first] + sizes[second];
      const joined = alike[first].map((value, i) => (sizes[first] * value + sizes[second] * alike[second][i]) / size);
      joined[first] = joined[second] = -Infinity;
      for (let i = 0; i < count; i++) {
        alike[first][i] = alike[i][first] = joined[i];
        alike[second][i] = alike[i][second] = -Infinity;
      }
      sizes[first] = size;
      groups.forEach((group, i) => { if (group === second) groups[i] = first; });
      for (let row = 0; row < count; row++) {
        const stale = row === first || row === second || nearest[row] === first || nearest[row] === second || joined[row] > likeness[row];
        if (stale) {
          nearest[row] = argmax(alike[row]);
          likeness[row] = alike[row][nearest[row]];
        }
      }
    }
    const present = unique(groups);
    return groups.map((group) => present.indexOf(group));
  });
}

// Mean cosines of two groups relative to those within them.
function likenessOf(embeddings, seconds, groups) {
  const present = unique(groups);
  const totals = present.map(() => 0), squares = present.map(() => 0);
  const sums = present.map(() => new Float64Array(embeddings[0].length));
  groups.forEach((group, n) => {
    const g = present.indexOf(group);
    totals[g] += seconds[n];
    squares[g] += seconds[n] ** 2;
    embeddings[n].forEach((value, d) => { sums[g][d] += seconds[n] * value; });
  });
  const steadiness = present.map((_, g) => {
    const pairs = totals[g] ** 2 - squares[g], count = pairs / squares[g];
    const within = (dot(sums[g], sums[g]) - squares[g]) / Math.max(pairs, 1e-9);
    return Math.min(1, Math.max(0.1, (within * count + USUAL_COSINE * USUAL_PAIRS) / (count + USUAL_PAIRS)));
  });
  return present.map((_, g) => present.map((_, h) =>
    dot(sums[g], sums[h]) / (totals[g] * totals[h]) / Math.sqrt(steadiness[g] * steadiness[h])));
}

export function findCentroids(embeddings, seconds, labels) {
  const present = unique(labels);
  return meanDirections(embeddings, seconds, labels.map((label) => present.indexOf(label))).map((row) => Float32Array.from(row));
}

function timedDirections(embeddings, seconds, labels) {
  const heard = new Float64Array(largest(labels) + 1);
  labels.forEach((label, n) => { heard[label] += seconds[n]; });
  return meanDirections(embeddings, seconds, labels).map((direction, g) => ({ direction, seconds: heard[g] }));
}

// Unit vectors of groups that are numbered from 0.
function meanDirections(embeddings, seconds, labels) {
  const sums = Array.from({ length: largest(labels) + 1 }, () => new Float64Array(embeddings[0].length));
  labels.forEach((label, n) => embeddings[n].forEach((value, d) => { sums[label][d] += seconds[n] * value; }));
  return sums.map((total) => {
    const norm = Math.max(Math.sqrt(dot(total, total)), 1e-9);
    return total.map((value) => value / norm);
  });
}
