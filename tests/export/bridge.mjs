// Runs the modules of the exported page for the tests. Each line of the input is a task: an expression over the modules
// `m`, its arguments `a` and networks `n`; a network's pass is asked for in a line of the output and answered in the next
// line of the input.
import { readdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const folder = process.argv[2], m = {};
for (const file of readdirSync(folder).filter((each) => each.endsWith(".js"))) {
  m[file.slice(0, -3)] = await import(pathToFileURL(`${folder}/${file}`));
}
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const receive = async () => {
  const { value, done } = await lines.next();
  return done ? null : JSON.parse(value, (_, each) => (each && each.f32 !== undefined ? decode(each.f32) : each));
};
const send = (value) => process.stdout.write(JSON.stringify(encode(value)) + "\n");

function decode(text) {
  const bytes = Buffer.from(text, "base64");
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

function encode(value) {
  if (value instanceof Float32Array) return { f32: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64") };
  if (value instanceof Set) return [...value];
  if (ArrayBuffer.isView(value)) return Array.from(value);
  if (Array.isArray(value)) return value.map(encode);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, encode(each)]));
  return value;
}

const n = Object.fromEntries(["separate", "detect", "embed", "enhance"].map((network) => [network, async (samples) => {
  send({ network, samples });
  return (await receive()).answer;
}]));

for (let task = await receive(); task; task = await receive()) {
  try {
    send({ result: await new Function("m", "a", "n", `return ${task.expression}`)(m, task.arguments, n) });
  } catch (error) {
    send({ error: String(error.stack ?? error) });
  }
}
