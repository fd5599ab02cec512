// WAV files: read exactly (browsers scale positive and negative samples differently), and written with 16 bits.

const PCM = 1, FLOAT = 3, EXTENSIBLE = 0xfffe, MOST_CHANNELS = 64;

// Where the samples of a file are, by its header: {rate, numChannels, encoding, bytes, place, length, missing}, with
// the length in samples per channel and the missing bytes of a file that is cut off; null for what is no such file.
export async function readHeader(file) {
  const part = async (first, last) => new DataView(await file.slice(first, last).arrayBuffer());
  const letters = (view, at) => String.fromCharCode(...Array.from({ length: 4 }, (_, i) => view.getUint8(at + i)));
  const head = await part(0, 12);
  if (head.byteLength < 12 || letters(head, 0) !== "RIFF" || letters(head, 8) !== "WAVE") return null;
  let form = null;
  for (let at = 12; at + 8 <= file.size;) {
    const chunk = await part(at, at + 8), size = chunk.getUint32(4, true), name = letters(chunk, 0);
    if (name === "fmt ") form = await part(at + 8, at + 8 + Math.min(size, 40));
    if (name === "data") return form && form.byteLength >= 16 ? described(form, at + 8, size, file.size) : null;
    at += 8 + size + (size % 2);
  }
  return null;
}

function described(form, place, size, fileSize) {
  const number = form.getUint16(0, true), isExtensible = number === EXTENSIBLE && form.byteLength >= 40;
  const encoding = isExtensible ? form.getUint16(24, true) : number, numChannels = form.getUint16(2, true);
  const frame = form.getUint16(12, true), bytes = frame / numChannels, rate = form.getUint32(4, true);
  const isKnown = encoding === PCM ? [1, 2, 3, 4].includes(bytes) : encoding === FLOAT && [4, 8].includes(bytes);
  if (!isKnown || numChannels > MOST_CHANNELS || form.getUint16(14, true) !== 8 * bytes || !rate) return null;
  const rest = fileSize - place, isOpen = size === 0xffffffff || size === 0; // written to a pipe
  const length = Math.floor((isOpen ? rest : Math.min(size, rest)) / frame);
  return { rate, numChannels, encoding, bytes, place, length, missing: isOpen ? 0 : Math.max(0, size - rest) };
}

// The channels of a file, with full scale at 1.
export async function readSamples(file, { numChannels, encoding, bytes, place, length }) {
  const channels = Array.from({ length: numChannels }, () => new Float32Array(length)), block = 1 << 16;
  for (let first = 0; first < length; first += block) {
    const count = Math.min(block, length - first), start = place + first * bytes * numChannels;
    const view = new DataView(await file.slice(start, start + count * bytes * numChannels).arrayBuffer());
    const read = reader(view, encoding, bytes);
    channels.forEach((samples, channel) => {
      for (let i = 0; i < count; i++) samples[first + i] = read((i * numChannels + channel) * bytes);
    });
  }
  return channels;
}

function reader(view, encoding, bytes) {
  if (encoding === FLOAT) return bytes === 4 ? (at) => view.getFloat32(at, true) : (at) => view.getFloat64(at, true);
  if (bytes === 1) return (at) => (view.getUint8(at) - 128) / 128;
  if (bytes === 2) return (at) => view.getInt16(at, true) / 32768;
  if (bytes === 3) return (at) => (view.getUint16(at, true) + view.getInt8(at + 2) * 65536) / 8388608;
  return (at) => view.getInt32(at, true) / 2147483648;
}

// A mono file with 16 bits.
export function encodeWav(samples, rate, gain) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  [[16, 16], [24, rate], [28, 2 * rate], [40, 2 * samples.length]].forEach(([at, value]) => view.setUint32(at, value, true));
  [[20, PCM], [22, 1], [32, 2], [34, 16]].forEach(([at, value]) => view.setUint16(at, value, true));
  text(36, "data");
  for (let i = 0; i < samples.length; i++) {
    view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(samples[i] * gain * 32768))), true);
  }
  return view;
}
