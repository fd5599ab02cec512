// Files and the microphone as samples; what cannot be used is thrown as {key, values} to say.
import { readHeader, readSamples } from "./separation/wav.js";

export const MOST_SECONDS = 1800;
const MOST_MEGABYTES = 512;

// {channels, rate} of a sound file: WAV files at their own rate, others as the browser decodes them at the given rate.
export async function openFile(file, rate) {
  const f = file.name;
  const refuse = (key, values = {}) => { throw { key, values: { f, ...values } }; };
  if (!file.size) refuse("empty");
  if (file.size > MOST_MEGABYTES * 2 ** 20) refuse("large", { n: MOST_MEGABYTES });
  if (file.type && !/^(audio|video)\/|ogg|octet-stream/.test(file.type)) refuse("notSound");
  const checkLength = (seconds) => {
    if (seconds > MOST_SECONDS) refuse("long", { m: Math.ceil(seconds / 60), n: MOST_SECONDS / 60 });
  };
  const header = await readHeader(file);
  if (header) {
    if (!header.length) refuse("silent");
    checkLength(header.length / header.rate);
    if (header.missing) refuse("cut");
  } else checkLength(await lengthOf(file));
  try {
    if (header) return { channels: await readSamples(file, header), rate: header.rate };
    const decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
    if (!decoded.length) refuse("silent");
    checkLength(decoded.duration);
    const channels = Array.from({ length: decoded.numberOfChannels }, (_, channel) => decoded.getChannelData(channel).slice());
    return { channels, rate };
  } catch (error) {
    if (error.key) throw error;
    return refuse(error instanceof RangeError || error.name === "NotReadableError" ? "memory" : "notSound");
  }
}

// Seconds by the file's header, before hours are decoded; 0 where it does not say.
function lengthOf(file) {
  return new Promise((resolve) => {
    const audio = new Audio(), url = URL.createObjectURL(file);
    const end = (seconds) => { URL.revokeObjectURL(url); resolve(seconds); };
    audio.preload = "metadata";
    audio.onloadedmetadata = () => end(Number.isFinite(audio.duration) ? audio.duration : 0);
    audio.onerror = () => end(0);
    audio.src = url;
  });
}

// A recording of the microphone, as a file when it is stopped.
export class Recording {
  constructor(onTime, onFile) { Object.assign(this, { onTime, onFile, recorder: null }); }

  get isOn() { return this.recorder !== null; }

  async start(name) {
    let stream = null;
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
    } catch {
      throw { key: "noMicrophone", values: {} };
    }
    const parts = [], begin = performance.now();
    const recorder = this.recorder = new MediaRecorder(stream);
    const clock = setInterval(() => {
      const seconds = (performance.now() - begin) / 1000;
      this.onTime(seconds);
      if (seconds >= MOST_SECONDS - 1) this.stop();
    }, 250);
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = () => {
      clearInterval(clock);
      stream.getTracks().forEach((track) => track.stop());
      this.recorder = null;
      this.onFile(new File(parts, name, { type: recorder.mimeType }));
    };
    recorder.start(1000);
    this.onTime(0);
  }

  stop() { if (this.recorder?.state === "recording") this.recorder.stop(); }
}
