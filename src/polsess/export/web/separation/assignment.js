// Who says which piece, and which output of a network holds whose voice, as polsess.diarization.assignment.
import { argmax } from "./numbers.js";

const SURE_SECONDS = 1.2, STAY_BONUS = 0.07, STAY_SECONDS = 0.5, VOICE_WEIGHT = 2, FULL_NEIGHBOUR_SECONDS = 0.3;
const LONGEST_SPAN = 4, SURE_MARGIN = 0.3;

// The most plausible sequence of voices, by the algorithm of Viterbi.
export function decodeVoices(similarities, pieces, hopSeconds) {
  const count = similarities.length;
  if (!count) return [];
  const scores = similarities.map((row, i) => {
    const seconds = (pieces[i][1] - pieces[i][0]) * hopSeconds;
    return row.map((value) => value * Math.min(1, Math.max(0.1, seconds / SURE_SECONDS)));
  });
  const back = [null];
  let best = scores[0];
  for (let i = 1; i < count; i++) {
    const bonus = STAY_BONUS * Math.exp((-(pieces[i][0] - pieces[i - 1][1]) * hopSeconds) / STAY_SECONDS);
    const before = best;
    back.push(before.map((_, now) => argmax(before.map((value, then) => value + (then === now ? bonus : 0)))));
    best = before.map((_, now) => before[back[i][now]] + (back[i][now] === now ? bonus : 0) + scores[i][now]);
  }
  const labels = new Array(count);
  labels[count - 1] = argmax(best);
  for (let i = count - 1; i > 0; i--) labels[i - 1] = back[i][labels[i]];
  return labels;
}

// How like the voices steps are; `compare` hears some, given by their places: between two that are surely of one
// voice no more are needed.
export async function compareSteps(steps, numVoices, compare) {
  const similarities = steps.map(() => new Array(numVoices).fill(1));
  let spans = [], begin = 0;
  for (let last = 1; last <= steps.length; last++) {
    if (last < steps.length && steps[last - 1][1] === steps[last][0]) continue;
    for (let first = begin; first < Math.max(begin + 1, last - 1); first += LONGEST_SPAN) {
      spans.push([first, Math.min(first + LONGEST_SPAN, last - 1)]);
    }
    begin = last;
  }
  let heard = numVoices > 1 ? [...new Set(spans.flat())] : [];
  while (heard.length) {
    (await compare(heard)).forEach((row, i) => (similarities[heard[i]] = Array.from(row)));
    const wide = spans;
    [spans, heard] = [[], []];
    for (const [first, last] of wide) {
      const [left, right] = [similarities[first], similarities[last]], voice = surely(left);
      if (voice >= 0 && voice === surely(right)) {
        for (let i = first + 1; i < last; i++) {
          const weight = (i - first) / (last - first);
          similarities[i] = left.map((value, s) => (1 - weight) * value + weight * right[s]);
        }
      } else if (last - first > 1) {
        const middle = Math.floor((first + last) / 2);
        heard.push(middle);
        spans.push([first, middle], [middle, last]);
      }
    }
  }
  return similarities;
}

// The voice that is nearest, -1 if another is about as near.
function surely(similarities) {
  const [second, best] = Float64Array.from(similarities).sort().slice(-2);
  return best - second >= SURE_MARGIN ? argmax(similarities) : -1;
}

// The voice on each output; two outputs are two people as long as there are enough voices.
export function assignOutputs(correlations, soloSeconds, similarities) {
  const scores = correlations.map((row, c) => row.map((value, s) =>
    value * Math.min(soloSeconds[s] / FULL_NEIGHBOUR_SECONDS, 1) + VOICE_WEIGHT * similarities[c][s]));
  return bestPairs(scores).map((voice, output) => (voice >= 0 ? voice : argmax(scores[output])));
}

// The column of each row in the pairs with the greatest sum, as many as there can be; -1 for a row without one.
export function bestPairs(scores) {
  let best = new Map([[0, { total: 0, pairs: [] }]]); // by the set of rows that have theirs
  for (let column = 0; column < scores[0].length; column++) {
    const longer = new Map(best);
    for (const [taken, { total, pairs }] of best) {
      for (let row = 0; row < scores.length; row++) {
        if ((taken >> row) & 1) continue;
        const both = taken | (1 << row), value = total + scores[row][column];
        if (!longer.has(both) || value > longer.get(both).total) longer.set(both, { total: value, pairs: [...pairs, [row, column]] });
      }
    }
    best = longer;
  }
  const most = Math.max(...[...best.values()].map(({ pairs }) => pairs.length));
  const chosen = [...best.values()].filter(({ pairs }) => pairs.length === most).reduce((a, b) => (b.total > a.total ? b : a));
  const found = new Map(chosen.pairs);
  return scores.map((_, row) => found.get(row) ?? -1);
}
