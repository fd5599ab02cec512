// What a Mamba layer does between its projections, on a CPU, each step in one pass over memory: the selective scan
// (step sizes, recurrence, skip and gate) and the causal convolution with SiLU before it.
// Lanes run over channels; what a block of channels carries from step to step stays in registers. The backward pass
// of the scan recomputes the states of one chunk at a time from those that the forward pass kept at the chunks'
// starts; that of the convolution recomputes its sums.
// Layout: u, delta, z, y [rows, length, channels]; b, c [rows, length, states]; a [states, channels];
// state tensors [rows, states, channels]; checkpoints [rows, chunks, states, channels]; x of the convolution
// [rows, length, channels], its filters [taps, channels]. All float32, but that sequences of forward passes may be
// bfloat16.

#include <algorithm>
#include <optional>
#include <vector>

#include "threads.h"
#include "vectors.h"

extern "C" struct Scan {
  int64_t length, channels, states, chunk, reverse, softplus;
  Rows u, delta, z, b, c, y;
  const float *a, *skip, *bias, *initial;  // null where absent
  float *last, *checkpoints;
};

extern "C" struct Conv {
  int64_t length, channels, taps, reverse, activation;
  int64_t ahead;  // positions to come that a sum reaches; 0 in backward passes
  Rows x, y;      // y: half of the channels where these gate the other half
  const float *weight, *bias;  // bias: null where absent
};

extern "C" struct ConvGradients {
  Rows y, x;
  float *weight, *bias;  // sums, [parts, taps, channels] and [parts, channels]
};

extern "C" struct Gradients {
  Rows y, u, delta, z, b, c;
  const float* last;
  float *a, *skip, *bias, *initial;  // a, skip, bias: sums, [parts, states, channels] and [parts, channels]
};

namespace {

constexpr int kMaxStates = 64;
constexpr int kMaxTaps = 16;
constexpr int64_t kSilu = 1, kGated = 2;  // activations; 0: none
constexpr int64_t kAhead = 2;  // positions; where rows are parts of wider ones, processors do not foresee the next

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

constexpr int64_t kSteps = 16;  // positions that the forward pass takes at once
constexpr int64_t kPitch = kSteps + 1;  // between blocks, so that they do not meet in the same sets of the cache
constexpr int kGroup = 8;       // states of a block of channels that stay in registers meanwhile

// Some positions of a row, of a range of channels in whole blocks of lanes.
struct Stretch {
  int64_t first_channel, num_blocks;
  std::vector<Vec> rates, state;  // [blocks, states]
  std::vector<Vec> dt, x, y;      // [blocks, kPitch]
  std::vector<float> b, c;        // [kSteps, states]

  Stretch(const Scan& scan, int64_t first, int64_t last)
      : first_channel(first), num_blocks((last - first + kLanes - 1) / kLanes) {
    for (auto* buffer : {&rates, &state}) buffer->resize(num_blocks * scan.states);
    for (auto* buffer : {&dt, &x, &y}) buffer->resize(num_blocks * kPitch);
    for (auto* buffer : {&b, &c}) buffer->resize(kSteps * scan.states);
    for (int64_t index = 0; index < num_blocks; ++index)
      load_rates(scan, block(scan, 0, index), scan.states, &rates[index * scan.states]);
  }

  Block block(const Scan& scan, int64_t row, int64_t index) const {
    const int64_t channel = first_channel + index * kLanes;
    return {row, channel, within(scan.channels, channel)};
  }
};

// Step sizes, inputs and the skip path, position by position, so that memory is read as it lies.
void prepare(const Scan& scan, int64_t row, int64_t first, int64_t size, Stretch& work) {
  for (int64_t k = 0; k < size; ++k) {
    const int64_t l = position(scan, first + k);
    const int64_t next = position(scan, std::min(first + k + kAhead, scan.length - 1));
    const Numbers us = scan.u.numbers(row, l), deltas = scan.delta.numbers(row, l), zs = scan.z.numbers(row, l);
    const Numbers next_us = scan.u.numbers(row, next), next_deltas = scan.delta.numbers(row, next);
    const Numbers bs = scan.b.numbers(row, l), cs = scan.c.numbers(row, l);
    for (int64_t n = 0; n < scan.states; n += kLanes) {
      const int count = within(scan.states, n);
      store(&work.b[k * scan.states + n], bs.read(n, count), count);
      store(&work.c[k * scan.states + n], cs.read(n, count), count);
    }
    for (int64_t index = 0; index < work.num_blocks; ++index) {
      const Block at = work.block(scan, row, index);
      next_us.prefetch(at.channel);
      next_deltas.prefetch(at.channel);
      if (scan.z.data) zs.prefetch(at.channel);
      const Vec bias = scan.bias ? load(scan.bias + at.channel, at.count) : Vec{};
      const Vec skip = scan.skip ? load(scan.skip + at.channel, at.count) : Vec{};
      const Vec u = us.read(at.channel, at.count);
      const Vec dt = step_size(deltas.read(at.channel, at.count) + bias, scan.softplus);
      work.dt[index * kPitch + k] = dt;
      work.x[index * kPitch + k] = dt * u;
      work.y[index * kPitch + k] = skip * u;
    }
  }
}

// The recurrence of some states of a block of channels.
template <int kStates>
inline void recur(const Scan& scan, int64_t index, int64_t size, int first_state, int count, Stretch& work) {
  const int states = kStates ? kStates : count;
  Vec rates[kGroup], h[kGroup];
  for (int n = 0; n < states; ++n) rates[n] = work.rates[index * scan.states + first_state + n];
  for (int n = 0; n < states; ++n) h[n] = work.state[index * scan.states + first_state + n];
  const Vec *dt = &work.dt[index * kPitch], *x = &work.x[index * kPitch];
  Vec* y = &work.y[index * kPitch];
  for (int64_t k = 0; k < size; ++k) {
    const float *b = &work.b[k * scan.states + first_state], *c = &work.c[k * scan.states + first_state];
    Vec total = y[k];
    for (int n = 0; n < states; ++n) {
      h[n] = exp2(dt[k] * rates[n]) * h[n] + x[k] * b[n];
      total += h[n] * c[n];
    }
    y[k] = total;
  }
  for (int n = 0; n < states; ++n) work.state[index * scan.states + first_state + n] = h[n];
}

void finish(const Scan& scan, int64_t row, int64_t first, int64_t size, const Stretch& work) {
  for (int64_t k = 0; k < size; ++k) {
    const int64_t l = position(scan, first + k);
    const Numbers zs = scan.z.numbers(row, l), ys = scan.y.numbers(row, l);
    for (int64_t index = 0; index < work.num_blocks; ++index) {
      const Block at = work.block(scan, row, index);
      Vec y = work.y[index * kPitch + k];
      if (scan.z.data) {
        const Vec z = zs.read(at.channel, at.count);
        y *= z * sigmoid(z);
      }
      ys.write(at.channel, y, at.count);
    }
  }
}

// Copies the states of a row into the stretch or, with kOut, from it; zeros for a null pointer.
template <bool kOut, class Pointer>
void copy_states(const Scan& scan, int64_t row, Pointer states, Stretch& work) {
  for (int64_t index = 0; index < work.num_blocks; ++index) {
    const Block at = work.block(scan, row, index);
    for (int n = 0; n < scan.states; ++n) {
      Vec& h = work.state[index * scan.states + n];
      if constexpr (kOut) store(states + n * scan.channels + at.channel, h, at.count);
      else h = states ? load(states + n * scan.channels + at.channel, at.count) : Vec{};
    }
  }
}

void forward_row(const Scan& scan, int64_t row, Stretch& work) {
  const int64_t width = scan.states * scan.channels;
  copy_states<false>(scan, row, scan.initial ? scan.initial + row * width : nullptr, work);
  for (int64_t first = 0, size; first < scan.length; first += size) {
    const int64_t in_chunk = first % scan.chunk;
    size = std::min({kSteps, scan.chunk - in_chunk, scan.length - first});
    if (scan.checkpoints && in_chunk == 0) copy_states<true>(scan, row, checkpoint(scan, row, first / scan.chunk), work);
    prepare(scan, row, first, size, work);
    for (int64_t index = 0; index < work.num_blocks; ++index)
      for (int n = 0; n < scan.states; n += kGroup) {
        const int count = static_cast<int>(std::min<int64_t>(kGroup, scan.states - n));
        if (count == kGroup) recur<kGroup>(scan, index, size, n, count, work);
        else recur<0>(scan, index, size, n, count, work);
      }
    finish(scan, row, first, size, work);
  }
  if (scan.last) copy_states<true>(scan, row, scan.last + row * width, work);
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
  accumulate(out.skip + at.channel, skip_gradient, at.count);
  accumulate(out.bias + at.channel, bias_gradient, at.count);
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
      const int count = within(scan.channels, channel);
      backward_chunk(scan, out, {row, channel, count}, first, size, work);
    }
    for (int64_t k = 0; k < size; ++k) {
      float *b = out.b.at(row, position(scan, first + k)), *c = out.c.at(row, position(scan, first + k));
      for (int64_t n = 0; n < states; ++n) {
        b[n] = sum_of_lanes(work.b[k * states + n]);
        c[n] = sum_of_lanes(work.c[k * states + n]);
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

// The inputs of a position's sum: those of the taps first to last, oldest first.
template <int kTaps>  // 0: not known before
struct Taps {
  Numbers inputs[kTaps ? kTaps : kMaxTaps];
  int first, last;

  Taps(const Conv& conv, int64_t row, int64_t oldest)
      : first(static_cast<int>(std::max<int64_t>(0, -oldest))),
        last(static_cast<int>(std::min(conv.taps, conv.length - oldest))) {
    for (int k = first; k < last; ++k) inputs[k] = conv.x.numbers(row, position(conv, oldest + k));
  }

  inline Vec sum(const Conv& conv, int64_t channel, int count) const {
    Vec y = conv.bias ? load(conv.bias + channel, count) : Vec{};
    for (int k = kTaps ? 0 : first; k < (kTaps ? kTaps : last); ++k)
      y += load(conv.weight + k * conv.channels + channel, count) * inputs[k].read(channel, count);
    return y;
  }
};

template <int kTaps>
void conv_position(const Conv& conv, int64_t row, int64_t index, int64_t first_channel, int64_t last_channel) {
  const int64_t half = conv.activation == kGated ? conv.channels / 2 : 0;
  const Taps<kTaps> taps(conv, row, index + conv.ahead - (conv.taps - 1));
  const Numbers output = conv.y.numbers(row, position(conv, index));
  const int64_t soon = std::min(index + conv.ahead + kAhead, conv.length - 1);
  const Numbers next = conv.x.numbers(row, position(conv, soon));
  const auto block = [&](int64_t channel, int count) __attribute__((always_inline)) {
    next.prefetch(channel);
    Vec y = taps.sum(conv, channel, count);
    if (half) {
      next.prefetch(channel + half);
      y *= sigmoid(taps.sum(conv, channel + half, count));
    } else if (conv.activation == kSilu) {
      y *= sigmoid(y);
    }
    output.write(channel, y, count);
  };
  int64_t channel = first_channel;
  for (; channel + kLanes <= last_channel; channel += kLanes) block(channel, kLanes);
  if (channel < last_channel) block(channel, static_cast<int>(last_channel - channel));
}

// Position by position, so that memory is read as it lies.
void conv_row(const Conv& conv, int64_t row, int64_t first_channel, int64_t last_channel) {
  for (int64_t index = 0; index < conv.length; ++index) {
    const int64_t newest = index + conv.ahead;
    const bool whole = newest >= conv.taps - 1 && newest < conv.length;
    if (whole && conv.taps == 3) conv_position<3>(conv, row, index, first_channel, last_channel);
    else if (whole && conv.taps == 4) conv_position<4>(conv, row, index, first_channel, last_channel);
    else conv_position<0>(conv, row, index, first_channel, last_channel);
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
      if (conv.activation == kSilu) {
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
  accumulate(out.bias + at.channel, bias, at.count);
}

// Calls work on every block of channels of some rows.
template <class Work>
void for_blocks(int64_t first_row, int64_t last_row, int64_t channels, Work work) {
  for (int64_t row = first_row; row < last_row; ++row)
    for (int64_t channel = 0; channel < channels; channel += kLanes)
      work(Block{row, channel, within(channels, channel)});
}

// A thread's share of the work. Units are the rows, each cut into ranges of whole blocks of channels.
struct Units {
  int64_t channels, ranges, first, last;

  template <class Work>
  void each(Work work) const {
    const int64_t blocks = (channels + kLanes - 1) / kLanes;
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t range = unit % ranges;
      const int64_t from = blocks * range / ranges * kLanes, to = blocks * (range + 1) / ranges * kLanes;
      if (from < to) work(unit / ranges, from, std::min(to, channels));
    }
  }
};

// Calls work(units) in every thread; rows are cut where there are fewer of them than threads.
template <class Work>
void share_out(int64_t rows, int64_t channels, int64_t threads, Work work) {
  const int64_t ranges = rows ? (threads + rows - 1) / rows : 1;
  in_parts(std::min(threads, rows * ranges), rows * ranges, [&](int64_t, int64_t first, int64_t last) {
    work(Units{channels, ranges, first, last});
  });
}

}  // namespace

extern "C" void scan_forward(const Scan* scan, int64_t rows, int64_t threads) {
  share_out(rows, scan->channels, threads, [&](const Units& units) {
    std::optional<Stretch> work;  // one for all rows where they are not cut
    units.each([&](int64_t row, int64_t first, int64_t last) {
      if (!work || work->first_channel != first) work.emplace(*scan, first, last);
      forward_row(*scan, row, *work);
    });
  });
}

extern "C" void conv_forward(const Conv* conv, int64_t rows, int64_t threads) {
  const int64_t outputs = conv->activation == kGated ? conv->channels / 2 : conv->channels;
  share_out(rows, outputs, threads, [&](const Units& units) {
    units.each([&](int64_t row, int64_t first, int64_t last) { conv_row(*conv, row, first, last); });
  });
}

// Gradients of what the rows share are summed apart in each of `parts` threads: out.a is [parts, states, channels].
extern "C" void scan_backward(const Scan* scan, const Gradients* gradients, int64_t rows, int64_t parts) {
  in_parts(parts, rows, [&](int64_t part, int64_t first_row, int64_t last_row) {
    Gradients out = *gradients;
    out.a += part * scan->states * scan->channels;
    out.skip += part * scan->channels;
    out.bias += part * scan->channels;
    Workspace work;
    work.states.resize((scan->chunk + 1) * scan->states);
    for (auto* buffer : {&work.decays, &work.b, &work.c}) buffer->resize(scan->chunk * scan->states);
    work.steps.resize(scan->chunk);
    work.gradient.resize(scan->states * scan->channels);
    for (int64_t row = first_row; row < last_row; ++row) backward_row(*scan, out, row, work);
  });
}

extern "C" void conv_backward(const Conv* conv, const ConvGradients* gradients, int64_t rows, int64_t parts) {
  in_parts(parts, rows, [&](int64_t part, int64_t first_row, int64_t last_row) {
    ConvGradients out = *gradients;
    out.weight += part * conv->taps * conv->channels;
    out.bias += part * conv->channels;
    for_blocks(first_row, last_row, conv->channels, [&](const Block& at) {
      if (conv->taps == 4) conv_backward_block<4>(*conv, out, at);
      else conv_backward_block<0>(*conv, out, at);
    });
  });
}
