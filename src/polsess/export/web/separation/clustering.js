// Which pieces of speech are of one voice, as polsess.diarization.clustering: average linkage, then likeness of groups.
import { argmax, dot, sum, unique } from "./numbers.js";

const PURE_COSINE = 0.5, USUAL_COSINE = 0.45, USUAL_PAIRS = 6, ROUNDS = 10, MOST_PIECES = 3000, TRUSTED_SECONDS = 1.2;
const SMALLEST_SECONDS = 3, SMALLEST_SHARE = 0.015, SHARE_OF_SHORT = 0.1;

// The unit centroids of the voices in unit embeddings of pieces that last `seconds`.
export function cluster(embeddings, seconds, [fewest, most], threshold, eagerThreshold) {
  let places = seconds.flatMap((length, i) => (length >= TRUSTED_SECONDS ? [i] : []));
  if (places.length < Math.max(2, fewest)) places = seconds.map((_, i) => i);
  if (places.length > MOST_PIECES) {
    const step = (places.length - 1) / (MOST_PIECES - 1), all = places;
    places = Array.from({ length: MOST_PIECES }, (_, i) => all[Math.round(i * step)]);
  }
  const trusted = places.map((i) => embeddings[i]), lengths = places.map((i) => seconds[i]);
  const labels = agglomerate(trusted, lengths, fewest, most, threshold, eagerThreshold);
  let centroids = findCentroids(trusted, lengths, labels);
  for (let i = 0; i < ROUNDS; i++) {
    const updated = findCentroids(trusted, lengths, nearestVoices(trusted, centroids));
    if (updated.length !== centroids.length || allClose(updated, centroids)) break;
    centroids = updated;
  }
  return centroids;
}

export const cosines = (embeddings, centroids) => embeddings.map((one) => centroids.map((other) => dot(one, other)));

const nearestVoices = (embeddings, centroids) => cosines(embeddings, centroids).map(argmax);

const allClose = (a, b) => a.every((row, i) => row.every((value, j) => Math.abs(value - b[i][j]) <= 1e-8 + 1e-5 * Math.abs(b[i][j])));

function agglomerate(embeddings, seconds, fewest, most, threshold, eagerThreshold) {
  const none = embeddings.map(() => 0);
  if (embeddings.length === 1 || most === 1) return none;
  let groups = joinByAverage(embeddings, PURE_COSINE);
  for (;;) {
    const pair = pairToJoin(embeddings, seconds, groups, fewest, most, threshold, eagerThreshold);
    if (!pair) break;
    groups = groups.map((group) => (group === pair[1] ? pair[0] : group));
  }
  const found = largeGroups(groups, seconds);
  if (!found.length) return none;
  return nearestVoices(embeddings, found.map((one) => centroid(embeddings, seconds, groups, one)));
}

// Groups of pieces, the two most alike joined until no two have a mean cosine above a threshold.
export function joinByAverage(embeddings, threshold) {
  const count = embeddings.length;
  const exact = embeddings.map((row) => {
    const norm = Math.max(Math.sqrt(dot(row, row)), 1e-12);
    return Float64Array.from(row, (value) => value / norm);
  });
  const alike = exact.map((one, i) => Float64Array.from(exact, (other, j) => (i === j ? -Infinity : dot(one, other))));
  const groups = exact.map((_, i) => i), sizes = exact.map(() => 1);
  const nearest = alike.map(argmax), likeness = alike.map((row, i) => row[nearest[i]]);
  while (count > 1) {
    const first = argmax(likeness);
    if (likeness[first] < threshold) break;
    const second = nearest[first], size = sizes[first] + sizes[second];
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
}

// The two groups that are most alike and one voice, or null.
function pairToJoin(embeddings, seconds, groups, fewest, most, threshold, eagerThreshold) {
  const present = unique(groups), alike = likenessOf(embeddings, seconds, groups, present);
  const largeOnes = largeGroups(groups, seconds), large = present.map((group) => largeOnes.includes(group));
  const tooMany = largeOnes.length > most, fewEnough = largeOnes.length <= fewest;
  let best = null, value = -Infinity;
  for (let i = 0; i < present.length; i++) {
    for (let j = 0; j < present.length; j++) {
      const both = large[i] && large[j];
      let score = j > i ? alike[i][j] : -2;
      if ((tooMany && !both) || (!tooMany && fewEnough && both && score <= eagerThreshold)) score = -2;
      if (score > value) [best, value] = [[present[i], present[j]], score];
    }
  }
  return present.length < 2 || value <= (tooMany ? -1 : threshold) ? null : best;
}

// Mean cosines of two groups relative to those within them.
function likenessOf(embeddings, seconds, groups, present) {
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

// Groups that hold enough of the time, the longest first.
function largeGroups(labels, seconds) {
  const heard = new Map(), total = sum(seconds);
  labels.forEach((label, i) => heard.set(label, (heard.get(label) ?? 0) + seconds[i]));
  const least = Math.max(1e-9, Math.min(Math.max(SMALLEST_SECONDS, SMALLEST_SHARE * total), SHARE_OF_SHORT * total));
  return [...heard.keys()].sort((a, b) => a - b).sort((a, b) => heard.get(b) - heard.get(a)).filter((one) => heard.get(one) >= least);
}

export const findCentroids = (embeddings, seconds, labels) => unique(labels).map((one) => centroid(embeddings, seconds, labels, one));

function centroid(embeddings, seconds, labels, one) {
  const total = new Float64Array(embeddings[0].length);
  labels.forEach((label, n) => {
    if (label === one) embeddings[n].forEach((value, d) => { total[d] += seconds[n] * value; });
  });
  const norm = Math.max(Math.sqrt(dot(total, total)), 1e-9);
  return Float32Array.from(total, (value) => value / norm);
}
