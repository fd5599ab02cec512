// Separation off the page's own thread: the networks in onnxruntime-web, and everything around them.
import * as ort from "./ort.wasm.min.mjs";
import { SeparationError, separate } from "./separation/separate.js";
import { largest } from "./separation/numbers.js";
import { extremes } from "./waves.js";

ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
ort.env.wasm.numThreads = 1; // several need headers of the server that isolate the page
let loaded = null;

async function get(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw { key: "notLoaded", values: { e: `${name}: ${answer.status}` } };
  return answer;
}

async function load() {
  const facts = await (await get("./facts.json")).json();
  const open = async (name) => {
    const content = new Uint8Array(await (await get(name)).arrayBuffer());
    const session = await ort.InferenceSession.create(content, { executionProviders: ["wasm"], logSeverityLevel: 3 });
    const [input] = session.inputNames, [output] = session.outputNames;
    return async (samples) => { // the numbers of one item, and the shape of the batch
      const found = (await session.run({ [input]: new ort.Tensor("float32", samples, [1, samples.length]) }))[output];
      const { data, dims } = found;
      const numbers = data.slice();
      found.dispose();
      return { numbers, dims };
    };
  };
  const network = await open("./model.onnx"), networks = {};
  networks.separate = async (samples) => {
    const padded = new Float32Array(Math.max(samples.length, facts.minimum_samples));
    padded.set(samples);
    const { numbers } = await network(padded);
    return facts.names.map((_, c) => numbers.slice(c * padded.length, c * padded.length + samples.length));
  };
  if (facts.detector) {
    const detector = await open("./activity-detector.onnx"), embedder = await open("./speaker-embedder.onnx");
    networks.detect = async (samples) => {
      const { numbers, dims: [, count, width] } = await detector(samples);
      return Array.from({ length: count }, (_, l) => numbers.subarray(l * width, (l + 1) * width));
    };
    networks.embed = async (samples) => (await embedder(samples)).numbers;
    const enhancer = await open("./enhance-one-streaming.onnx");
    networks.enhance = async (samples) => (await enhancer(samples)).numbers;
  }
  return { facts, networks };
}

onmessage = async ({ data: { channels, rate, numSpeakers } }) => {
  try {
    loaded ??= await load();
    postMessage({ progress: 0 });
    const begin = performance.now(), progress = (share) => postMessage({ progress: share });
    const { mixture, tracks, timeline } = await separate(channels, rate, loaded.networks, loaded.facts, { numSpeakers, progress });
    const seconds = (performance.now() - begin) / 1000, sounds = [mixture, ...tracks], waves = sounds.map(extremes);
    const peaks = waves.map((pairs) => largest(pairs.map(Math.abs)));
    postMessage({ sounds, waves, peaks, timeline, seconds }, [...sounds, ...waves].map(({ buffer }) => buffer));
  } catch (error) {
    if (error.key) postMessage({ error });
    else if (error instanceof SeparationError) postMessage({ error: { key: error.message, values: {} } });
    else if (error instanceof RangeError) postMessage({ error: { key: "memory", values: {} } });
    else postMessage({ error: { key: "failed", values: { e: String(error.message ?? error) } } });
  }
};
