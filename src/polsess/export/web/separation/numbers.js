// Arithmetic that Python and numpy have and JavaScript has not, with their rules of rounding and of ties.

// To the nearest whole number, halves to the even one.
export function round(value) {
  const low = Math.floor(value), rest = value - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}

// Edges of `count` stretches, about equally long, from first to last.
export function evenEdges(first, last, count) {
  return Array.from({ length: count + 1 }, (_, i) => (i === count ? last : round(first + i * ((last - first) / count))));
}

export function sum(values) {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i];
  return total;
}

export function dot(a, b) {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i] * b[i];
  return total;
}

// The place of the first of the largest values.
export function argmax(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

export function largest(values) {
  let most = -Infinity;
  for (let i = 0; i < values.length; i++) if (values[i] > most) most = values[i];
  return most;
}

// Interpolated between the two nearest values.
export function quantile(values, share) {
  const sorted = Float64Array.from(values).sort(), place = share * (sorted.length - 1), low = Math.floor(place);
  return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

export const decibels = (value) => 10 ** (value / 10);

export const unique = (values) => [...new Set(values)].sort((a, b) => a - b);

// Orders of `taken` of `count` things, in the order of the dictionary.
export function permutations(count, taken = count) {
  const found = [];
  const extend = (order) => {
    if (order.length === taken) { found.push(order); return; }
    for (let next = 0; next < count; next++) if (!order.includes(next)) extend([...order, next]);
  };
  extend([]);
  return found;
}

// Gaussian elimination with the largest pivots: what is left of `rows`, and the logarithm of the determinant.
function eliminate(rows) {
  let logarithm = 0;
  for (let i = 0; i < rows.length; i++) {
    let pivot = i;
    for (let j = i + 1; j < rows.length; j++) if (Math.abs(rows[j][i]) > Math.abs(rows[pivot][i])) pivot = j;
    [rows[i], rows[pivot]] = [rows[pivot], rows[i]];
    logarithm += Math.log(Math.abs(rows[i][i]));
    for (let j = i + 1; j < rows.length; j++) {
      const factor = rows[j][i] / rows[i][i];
      for (let k = i; k < rows[i].length; k++) rows[j][k] -= factor * rows[i][k];
    }
  }
  return logarithm;
}

export const logDeterminant = (matrix) => eliminate(matrix.map((row) => [...row]));

export function solve(matrix, vector) {
  const rows = matrix.map((row, i) => [...row, vector[i]]), found = new Array(rows.length);
  eliminate(rows);
  for (let i = rows.length - 1; i >= 0; i--) {
    let rest = rows[i][rows.length];
    for (let j = i + 1; j < rows.length; j++) rest -= rows[i][j] * found[j];
    found[i] = rest / rows[i][i];
  }
  return found;
}

// First and behind-the-last place of every run of true values.
export function listRuns(active) {
  const runs = [];
  let first = -1;
  for (let i = 0; i <= active.length; i++) {
    if (i < active.length && active[i]) { if (first < 0) first = i; }
    else if (first >= 0) { runs.push([first, i]); first = -1; }
  }
  return runs;
}
