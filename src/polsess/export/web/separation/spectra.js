// Spectra of frames, by a Fourier transform of mixed radix for any length.

export class Fourier {
  constructor(length) {
    this.length = length;
    this.cosines = Float64Array.from({ length }, (_, i) => Math.cos((2 * Math.PI * i) / length));
    this.sines = Float64Array.from({ length }, (_, i) => -Math.sin((2 * Math.PI * i) / length));
    this.real = new Float64Array(length);
    this.imaginary = new Float64Array(length);
    this.factors = [];
    for (let rest = length, factor = 2; rest > 1; factor++) {
      while (rest % factor === 0) { this.factors.push(factor); rest /= factor; }
    }
    this.spare = [0, 1].map(() => new Float64Array(Math.max(1, ...this.factors)));
  }

  // Squared magnitudes of the lower half of the spectrum of real samples.
  power(samples, target) {
    this.transform(samples, 0, 1, this.length, 0, 0);
    for (let k = 0; k < target.length; k++) target[k] = this.real[k] ** 2 + this.imaginary[k] ** 2;
  }

  transform(samples, start, stride, length, at, depth) {
    if (length === 1) { this.real[at] = samples[start]; this.imaginary[at] = 0; return; }
    const factor = this.factors[depth], part = length / factor, turn = this.length / length;
    for (let q = 0; q < factor; q++) this.transform(samples, start + q * stride, stride * factor, part, at + q * part, depth + 1);
    const [real, imaginary] = this.spare, { cosines, sines } = this;
    for (let k = 0; k < part; k++) {
      for (let q = 0; q < factor; q++) {
        real[q] = this.real[at + q * part + k];
        imaginary[q] = this.imaginary[at + q * part + k];
      }
      for (let r = 0; r < factor; r++) {
        let a = 0, b = 0;
        for (let q = 0; q < factor; q++) {
          const place = (q * (k + r * part) * turn) % this.length;
          a += real[q] * cosines[place] - imaginary[q] * sines[place];
          b += real[q] * sines[place] + imaginary[q] * cosines[place];
        }
        this.real[at + r * part + k] = a;
        this.imaginary[at + r * part + k] = b;
      }
    }
  }
}

export function hannWindow(length) {
  return Float64Array.from({ length }, (_, i) => Math.fround(0.5 - 0.5 * Math.cos((2 * Math.PI * i) / length)));
}
