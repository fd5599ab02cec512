// Pictures of sounds: the extremes of stretches, drawn with the stretches in which somebody talks.
const COLUMNS = 2000;

export function extremes(samples) {
  const count = Math.min(COLUMNS, samples.length), pairs = new Float32Array(2 * count);
  for (let x = 0; x < count; x++) {
    const last = Math.floor(((x + 1) * samples.length) / count);
    let low = 0, high = 0;
    for (let i = Math.floor((x * samples.length) / count); i < last; i++) {
      if (samples[i] < low) low = samples[i];
      if (samples[i] > high) high = samples[i];
    }
    pairs[2 * x] = low;
    pairs[2 * x + 1] = high;
  }
  return pairs;
}

// `spans` in shares of the length are drawn as a band, or as a shade behind the wave.
export function drawWave(canvas, pairs, peak, { band = [], shade = [] }) {
  const ratio = devicePixelRatio || 1, styles = getComputedStyle(canvas), count = pairs.length / 2;
  const width = canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  const paint = canvas.getContext("2d"), room = height - (band.length ? 12 * ratio : 0);
  const place = ([first, last]) => [first * width, Math.max(ratio, (last - first) * width)];
  paint.fillStyle = styles.getPropertyValue("--shade");
  for (const span of shade) { const [x, wide] = place(span); paint.fillRect(x, 0, wide, height); }
  paint.fillStyle = styles.color;
  for (let x = 0; x < width; x++) {
    const first = Math.floor((x * count) / width), last = Math.max(first + 1, Math.floor(((x + 1) * count) / width));
    let low = 0, high = 0;
    for (let i = first; i < last; i++) { low = Math.min(low, pairs[2 * i]); high = Math.max(high, pairs[2 * i + 1]); }
    const top = ((1 - Math.min(1, high / peak)) * room) / 2, bottom = ((1 - Math.max(-1, low / peak)) * room) / 2;
    paint.fillRect(x, top, 1, Math.max(ratio, bottom - top));
  }
  for (const span of band) { const [x, wide] = place(span); paint.fillRect(x, height - 8 * ratio, wide, 8 * ratio); }
}
