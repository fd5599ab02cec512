// What a Mamba layer does between its projections, on a CPU, each step in one pass over memory: the selective scan
// (step sizes, recurrence, skip and gate) and the causal convolution with SiLU before it.
// Lanes run over channels; what a block of channels carries from step to step stays in registers. The backward pass
// of the scan recomputes the states of one chunk at a time from those that the forward pass kept at the chunks'
// starts; that of the convolution recomputes its sums.
// Layout: u, delta, z, y [rows, length, channels]; b, c [rows, length, states]; a [states, channels];
// state tensors [rows, states, channels]; checkpoints [rows, chunks, states, channels]; x of the convolution
// [rows, length, channels], its filters [taps, channels]. All float32.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int kLanes = 16;
constexpr int kMaxStates = 64;
constexpr int kMaxTaps = 16;
typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
constexpr float kLog2e = 1.44269504088896341f;
constexpr float kLn2 = 0.693147180559945309f;

struct Rows {  // a [rows, length, width] tensor whose last dimension is contiguous
  float* data;
  int64_t row_stride, step_stride;
  float* at(int64_t row, int64_t step) const { return data + row * row_stride + step * step_stride; }
};

}  // namespace

extern "C" struct Scan {
  int64_t length, channels, states, chunk, reverse, softplus;
  Rows u, delta, z, b, c, y;
  const float *a, *skip, *bias, *initial;  // null where absent
  float *last, *checkpoints;
};

extern "C" struct Conv {
  int64_t length, channels, taps, reverse, silu;
  Rows x, y;
  const float *weight, *bias;  // bias: null where absent
};

extern "C" struct ConvGradients {
  Rows y, x;
  float *weight, *bias;  // sums of the calling thread; bias: null where absent
};

extern "C" struct Gradients {
  Rows y, u, delta, z, b, c;
  const float* last;
  float *a, *skip, *bias, *initial;  // a, skip, bias: sums of the calling thread
};

namespace {

inline Vec load(const float* from, int count) {
  Vec value = {};
  if (count == kLanes) std::memcpy(&value, from, sizeof value);
  else std::memcpy(&value, from, count * sizeof(float));
  return value;
}

inline void store(float* to, const Vec& value, int count) {
  if (count == kLanes) std::memcpy(to, &value, sizeof value);
  else std::memcpy(to, &value, count * sizeof(float));
}

inline void accumulate(float* to, const Vec& value, int count) { store(to, load(to, count) + value, count); }

inline Vec splat(float value) { return Vec{} + value; }

// 2^x to 2e-7: the nearest integer goes to the exponent bits, a polynomial covers the rest in [-1/2, 1/2].
inline Vec exp2(Vec x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  x = x < splat(-126.0f) ? splat(-126.0f) : x;
  x = x > splat(127.0f) ? splat(127.0f) : x;
  const Vec shifted = x + magic;
  const Vec rest = x - (shifted - magic);
  Vec p = rest * 1.5461444724e-4f + 1.3400428178e-3f;
  p = p * rest + 9.6180566784e-3f;
  p = p * rest + 5.5503272266e-2f;
  p = p * rest + 2.4022650922e-1f;
  p = p * rest + 6.9314720670e-1f;
  p = p * rest + 1.0f;
  return (Vec)((Ints)p + ((Ints)shifted << 23));  // the magic number's own bits leave with the shift
}

inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp2(x * -kLog2e)); }

// log(1 + e) for e >= 0 with full relative precision near 0: log(w) * e / (w - 1) with w = fl(1 + e).
inline Vec log1p(Vec e) {
  const Vec w = 1.0f + e;
  const Ints bits = (Ints)w;
  const Ints exponent = (bits - 0x3f3504f3) >> 23;  // the mantissa goes to [sqrt(1/2), sqrt(2))
  const Vec mantissa = (Vec)(bits - (exponent << 23));
  const Vec s = (mantissa - 1.0f) / (mantissa + 1.0f);
  const Vec s2 = s * s;
  Vec p = s2 * (1.0f / 9.0f) + 1.0f / 7.0f;
  p = p * s2 + 1.0f / 5.0f;
  p = p * s2 + 1.0f / 3.0f;
  const Vec logarithm = __builtin_convertvector(exponent, Vec) * kLn2 + 2.0f * (s + s * s2 * p);
  const Vec gap = w - 1.0f;
  return gap == 0.0f ? e : logarithm * e / gap;
}

inline Vec step_size(Vec raw, bool softplus) {
  if (!softplus) return raw;
  const Vec soft = log1p(exp2(raw * kLog2e));
  return raw > splat(20.0f) ? raw : soft;
}

struct Block {  // kLanes channels of one row
  int64_t row, channel;
  int count;
};

template <class Task>
inline int64_t position(const Task& task, int64_t index) {
  return task.reverse ? task.length - 1 - index : index;
}

inline int64_t num_chunks(const Scan& scan) { return (scan.length + scan.chunk - 1) / scan.chunk; }

inline float* checkpoint(const Scan& scan, int64_t row, int64_t chunk) {
  return scan.checkpoints + (row * num_chunks(scan) + chunk) * scan.states * scan.channels;
}

// Decay rates in base 2, so that each exponential saves a multiplication.
inline void load_rates(const Scan& scan, const Block& at, int states, Vec* rates) {
  for (int n = 0; n < states; ++n) rates[n] = load(scan.a + n * scan.channels + at.channel, at.count) * kLog2e;
}

template <int kStates>
void forward_block(const Scan& scan, const Block& at) {
  const int states = kStates ? kStates : static_cast<int>(scan.states);
  const int64_t channels = scan.channels;
  Vec rates[kStates ? kStates : kMaxStates], h[kStates ? kStates : kMaxStates];
  load_rates(scan, at, states, rates);
  for (int n = 0; n < states; ++n)
    h[n] = scan.initial ? load(scan.initial + (at.row * states + n) * channels + at.channel, at.count) : Vec{};
  const Vec skip = scan.skip ? load(scan.skip + at.channel, at.count) : Vec{};
  const Vec bias = scan.bias ? load(scan.bias + at.channel, at.count) : Vec{};
  for (int64_t index = 0; index < scan.length; ++index) {
    if (scan.checkpoints && index % scan.chunk == 0) {
      float* kept = checkpoint(scan, at.row, index / scan.chunk) + at.channel;
      for (int n = 0; n < states; ++n) store(kept + n * channels, h[n], at.count);
    }
    const int64_t l = position(scan, index);
    const Vec dt = step_size(load(scan.delta.at(at.row, l) + at.channel, at.count) + bias, scan.softplus);
    const Vec u = load(scan.u.at(at.row, l) + at.channel, at.count);
    const float *b = scan.b.at(at.row, l), *c = scan.c.at(at.row, l);
    const Vec x = dt * u;
    Vec y = skip * u;
    for (int n = 0; n < states; ++n) {
      h[n] = exp2(dt * rates[n]) * h[n] + x * b[n];
      y += h[n] * c[n];
    }
    if (scan.z.data) {
      const Vec z = load(scan.z.at(at.row, l) + at.channel, at.count);
      y *= z * sigmoid(z);
    }
    store(scan.y.at(at.row, l) + at.channel, y, at.count);
  }
  if (scan.last)
    for (int n = 0; n < states; ++n)
      store(scan.last + (at.row * states + n) * channels + at.channel, h[n], at.count);
}

// What one chunk's recomputation leaves for its backward recurrence, per step.
struct Step {
  Vec raw, dt, u, y;  // y: before the gate
};

struct Workspace {
  std::vector<Vec> states;      // [chunk + 1, states]
  std::vector<Vec> decays;      // [chunk, states]
  std::vector<Vec> b, c;        // [chunk, states] gradients, lanes not yet summed
  std::vector<Step> steps;      // [chunk]
  std::vector<float> gradient;  // [states, channels], of the state after the present step
};

void recompute(const Scan& scan, const Block& at, int64_t first, int64_t size, const Vec* rates, Workspace& work) {
  const int states = static_cast<int>(scan.states);
  const float* kept = checkpoint(scan, at.row, first / scan.chunk) + at.channel;
  for (int n = 0; n < states; ++n) work.states[n] = load(kept + n * scan.channels, at.count);
  const Vec skip = scan.skip ? load(scan.skip + at.channel, at.count) : Vec{};
  const Vec bias = scan.bias ? load(scan.bias + at.channel, at.count) : Vec{};
  for (int64_t k = 0; k < size; ++k) {
    const int64_t l = position(scan, first + k);
    Step& step = work.steps[k];
    step.raw = load(scan.delta.at(at.row, l) + at.channel, at.count) + bias;
    step.dt = step_size(step.raw, scan.softplus);
    step.u = load(scan.u.at(at.row, l) + at.channel, at.count);
    step.y = skip * step.u;
    const float *b = scan.b.at(at.row, l), *c = scan.c.at(at.row, l);
    const Vec x = step.dt * step.u;
    const Vec* before = &work.states[k * states];
    Vec *after = &work.states[(k + 1) * states], *decay = &work.decays[k * states];
    for (int n = 0; n < states; ++n) {
      decay[n] = exp2(step.dt * rates[n]);
      after[n] = decay[n] * before[n] + x * b[n];
      step.y += after[n] * c[n];
    }
  }
}

// The gradient of the ungated output; writes the gate's own gradient.
inline Vec ungate(const Scan& scan, const Gradients& out, const Block& at, int64_t l, const Vec& y) {
  Vec gradient = load(out.y.at(at.row, l) + at.channel, at.count);
  if (!scan.z.data) return gradient;
  const Vec z = load(scan.z.at(at.row, l) + at.channel, at.count);
  const Vec share = sigmoid(z);
  store(out.z.at(at.row, l) + at.channel, gradient * y * share * (1.0f + z * (1.0f - share)), at.count);
  return gradient * z * share;
}

void backward_chunk(const Scan& scan, const Gradients& out, const Block& at, int64_t first, int64_t size,
                    Workspace& work) {
  const int states = static_cast<int>(scan.states);
  Vec rates[kMaxStates], g[kMaxStates], rates_gradient[kMaxStates] = {};
  load_rates(scan, at, states, rates);
  recompute(scan, at, first, size, rates, work);
  for (int n = 0; n < states; ++n) g[n] = load(&work.gradient[n * scan.channels + at.channel], at.count);
  const Vec skip = scan.skip ? load(scan.skip + at.channel, at.count) : Vec{};
  Vec skip_gradient = {}, bias_gradient = {};
  for (int64_t k = size - 1; k >= 0; --k) {
    const int64_t l = position(scan, first + k);
    const Step& step = work.steps[k];
    const Vec dy = ungate(scan, out, at, l, step.y), x = step.dt * step.u;
    const float *b = scan.b.at(at.row, l), *c = scan.c.at(at.row, l);
    const Vec *before = &work.states[k * states], *after = before + states, *decay = &work.decays[k * states];
    Vec *db = &work.b[k * states], *dc = &work.c[k * states];
    Vec dx = {}, d_rate = {};
    for (int n = 0; n < states; ++n) {
      const Vec inflow = g[n] + dy * c[n];
      dc[n] += dy * after[n];
      db[n] += inflow * x;
      dx += inflow * b[n];
      g[n] = inflow * decay[n];
      const Vec exponent = g[n] * before[n];
      rates_gradient[n] += exponent * step.dt;
      d_rate += exponent * rates[n];
    }
    skip_gradient += dy * step.u;
    store(out.u.at(at.row, l) + at.channel, dy * skip + dx * step.dt, at.count);
    Vec d_delta = d_rate * kLn2 + dx * step.u;
    if (scan.softplus) d_delta *= step.raw > splat(20.0f) ? splat(1.0f) : sigmoid(step.raw);
    bias_gradient += d_delta;
    store(out.delta.at(at.row, l) + at.channel, d_delta, at.count);
  }
  for (int n = 0; n < states; ++n) {
    store(&work.gradient[n * scan.channels + at.channel], g[n], at.count);
    accumulate(out.a + n * scan.channels + at.channel, rates_gradient[n], at.count);
  }
  if (out.skip) accumulate(out.skip + at.channel, skip_gradient, at.count);
  if (out.bias) accumulate(out.bias + at.channel, bias_gradient, at.count);
}

inline float sum(const Vec& value) {
  float total = 0.0f;
  for (int lane = 0; lane < kLanes; ++lane) total += value[lane];
  return total;
}

void backward_row(const Scan& scan, const Gradients& out, int64_t row, Workspace& work) {
  const int64_t states = scan.states, width = states * scan.channels;
  if (out.last) std::memcpy(work.gradient.data(), out.last + row * width, width * sizeof(float));
  else std::fill(work.gradient.begin(), work.gradient.end(), 0.0f);
  for (int64_t chunk = num_chunks(scan) - 1; chunk >= 0; --chunk) {
    const int64_t first = chunk * scan.chunk, size = std::min(scan.chunk, scan.length - first);
    std::fill(work.b.begin(), work.b.end(), Vec{});
    std::fill(work.c.begin(), work.c.end(), Vec{});
    for (int64_t channel = 0; channel < scan.channels; channel += kLanes) {
      const int count = static_cast<int>(std::min<int64_t>(kLanes, scan.channels - channel));
      backward_chunk(scan, out, {row, channel, count}, first, size, work);
    }
    for (int64_t k = 0; k < size; ++k) {
      float *b = out.b.at(row, position(scan, first + k)), *c = out.c.at(row, position(scan, first + k));
      for (int64_t n = 0; n < states; ++n) {
        b[n] = sum(work.b[k * states + n]);
        c[n] = sum(work.c[k * states + n]);
      }
    }
  }
  if (out.initial) std::memcpy(out.initial + row * width, work.gradient.data(), width * sizeof(float));
}

// The filters and the latest inputs of a block of channels, oldest first.
template <int kTaps>
struct Window {
  int taps;
  Vec bias, weight[kTaps ? kTaps : kMaxTaps], input[kTaps ? kTaps : kMaxTaps] = {};

  Window(const Conv& conv, const Block& at) : taps(kTaps ? kTaps : static_cast<int>(conv.taps)) {
    bias = conv.bias ? load(conv.bias + at.channel, at.count) : Vec{};
    for (int k = 0; k < taps; ++k) weight[k] = load(conv.weight + k * conv.channels + at.channel, at.count);
  }

  Vec advance(const Vec& next) {
    for (int k = 0; k + 1 < taps; ++k) input[k] = input[k + 1];
    input[taps - 1] = next;
    Vec total = bias;
    for (int k = 0; k < taps; ++k) total += weight[k] * input[k];
    return total;
  }
};

template <int kTaps>
void conv_block(const Conv& conv, const Block& at) {
  Window<kTaps> window(conv, at);
  for (int64_t index = 0; index < conv.length; ++index) {
    const int64_t l = position(conv, index);
    Vec y = window.advance(load(conv.x.at(at.row, l) + at.channel, at.count));
    if (conv.silu) y *= sigmoid(y);
    store(conv.y.at(at.row, l) + at.channel, y, at.count);
  }
}

template <int kTaps>
void conv_backward_block(const Conv& conv, const ConvGradients& out, const Block& at) {
  Window<kTaps> window(conv, at);
  const int taps = window.taps;
  Vec sums[kTaps ? kTaps : kMaxTaps] = {}, weights[kTaps ? kTaps : kMaxTaps] = {}, bias = {};
  for (int64_t index = 0; index < conv.length + taps - 1; ++index) {
    for (int k = 0; k + 1 < taps; ++k) sums[k] = sums[k + 1];  // gradients of the latest sums, oldest first
    Vec gradient = {};
    if (index < conv.length) {
      const int64_t l = position(conv, index);
      const Vec sum = window.advance(load(conv.x.at(at.row, l) + at.channel, at.count));
      gradient = load(out.y.at(at.row, l) + at.channel, at.count);
      if (conv.silu) {
        const Vec share = sigmoid(sum);
        gradient *= share * (1.0f + sum * (1.0f - share));
      }
      bias += gradient;
      for (int k = 0; k < taps; ++k) weights[k] += gradient * window.input[k];
    }
    sums[taps - 1] = gradient;
    const int64_t source = index - (taps - 1);
    if (source < 0) continue;
    Vec x = {};
    for (int k = 0; k < taps; ++k) x += window.weight[taps - 1 - k] * sums[k];
    store(out.x.at(at.row, position(conv, source)) + at.channel, x, at.count);
  }
  for (int k = 0; k < taps; ++k) accumulate(out.weight + k * conv.channels + at.channel, weights[k], at.count);
  if (out.bias) accumulate(out.bias + at.channel, bias, at.count);
}

// Calls work on every block of channels of some rows.
template <class Work>
void for_blocks(int64_t first_row, int64_t last_row, int64_t channels, Work work) {
  for (int64_t row = first_row; row < last_row; ++row)
    for (int64_t channel = 0; channel < channels; channel += kLanes)
      work(Block{row, channel, static_cast<int>(std::min<int64_t>(kLanes, channels - channel))});
}

}  // namespace

extern "C" void scan_forward(const Scan* scan, int64_t first_row, int64_t last_row) {
  for_blocks(first_row, last_row, scan->channels, [&](const Block& at) {
    if (scan->states == 16) forward_block<16>(*scan, at);
    else forward_block<0>(*scan, at);
  });
}

extern "C" void scan_backward(const Scan* scan, const Gradients* out, int64_t first_row, int64_t last_row) {
  Workspace work;
  work.states.resize((scan->chunk + 1) * scan->states);
  for (auto* buffer : {&work.decays, &work.b, &work.c}) buffer->resize(scan->chunk * scan->states);
  work.steps.resize(scan->chunk);
  work.gradient.resize(scan->states * scan->channels);
  for (int64_t row = first_row; row < last_row; ++row) backward_row(*scan, *out, row, work);
}

extern "C" void conv_forward(const Conv* conv, int64_t first_row, int64_t last_row) {
  for_blocks(first_row, last_row, conv->channels, [&](const Block& at) {
    if (conv->taps == 4) conv_block<4>(*conv, at);
    else conv_block<0>(*conv, at);
  });
}

extern "C" void conv_backward(const Conv* conv, const ConvGradients* out, int64_t first_row, int64_t last_row) {
  for_blocks(first_row, last_row, conv->channels, [&](const Block& at) {
    if (conv->taps == 4) conv_backward_block<4>(*conv, *out, at);
    else conv_backward_block<0>(*conv, *out, at);
  });
}
