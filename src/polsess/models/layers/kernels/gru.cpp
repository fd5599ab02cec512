// A layer of gated recurrent units on a CPU, in float32, without gradients; products with the input come from outside.
// Several sequences take each step together, so that a weight is loaded once for all of them. Weights are packed so
// that those of the three gates of neighbouring units lie in the order of their use.
// Layout: gates [rows, length, 3 hidden] and output [rows, length, hidden] by strides; weight [3 hidden, hidden]; bias
// [3 hidden]; state [rows, hidden]. Gates come in the order reset, update, new.

#include <algorithm>
#include <vector>

#include "threads.h"
#include "vectors.h"

extern "C" struct Gru {
  int64_t length, hidden, reverse;
  Rows gates, output;
  const float *weight, *bias;  // of the product with the state before
  float* state;                // the first one, replaced by the last one
};

namespace {

constexpr int64_t kTogether = 4;
constexpr int kGates = 3;

int64_t count_blocks(const Gru& gru) { return (gru.hidden + kLanes - 1) / kLanes; }

int width(const Gru& gru, int64_t block) {
  return static_cast<int>(std::min<int64_t>(kLanes, gru.hidden - block * kLanes));
}

// [blocks, 1 + hidden, gates, lanes]: the bias of a block, then its weights, by the unit that they come from.
std::vector<float> pack(const Gru& gru) {
  std::vector<float> packed(count_blocks(gru) * (1 + gru.hidden) * kGates * kLanes);
  float* to = packed.data();
  for (int64_t block = 0; block < count_blocks(gru); ++block)
    for (int64_t from = -1; from < gru.hidden; ++from)
      for (int gate = 0; gate < kGates; ++gate, to += kLanes)
        for (int lane = 0; lane < width(gru, block); ++lane) {
          const int64_t row = gate * gru.hidden + block * kLanes + lane;
          to[lane] = from < 0 ? gru.bias[row] : gru.weight[row * gru.hidden + from];
        }
  return packed;
}

inline Vec tanh(Vec x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

template <int kRows>
void step(const Gru& gru, const float* packed, int64_t row, int64_t at, const float* before, float* after) {
  const int64_t padded = count_blocks(gru) * kLanes;
  for (int64_t block = 0; block < count_blocks(gru); ++block) {
    Vec sums[kGates][kRows];
    for (int gate = 0; gate < kGates; ++gate, packed += kLanes)
      for (int r = 0; r < kRows; ++r) sums[gate][r] = load(packed, kLanes);
    for (int64_t from = 0; from < gru.hidden; ++from, packed += kGates * kLanes) {
      const Vec reset = load(packed, kLanes), update = load(packed + kLanes, kLanes);
      const Vec fresh = load(packed + 2 * kLanes, kLanes);
      for (int r = 0; r < kRows; ++r) {
        const Vec value = splat(before[r * padded + from]);
        sums[0][r] += reset * value;
        sums[1][r] += update * value;
        sums[2][r] += fresh * value;
      }
    }
    const int64_t unit = block * kLanes;
    const int count = width(gru, block);
    for (int r = 0; r < kRows; ++r) {
      const float* heard = gru.gates.at(row + r, at) + unit;
      const Vec reset = sigmoid(load(heard, count) + sums[0][r]);
      const Vec update = sigmoid(load(heard + gru.hidden, count) + sums[1][r]);
      const Vec fresh = tanh(load(heard + 2 * gru.hidden, count) + reset * sums[2][r]);
      const Vec state = fresh + update * (load(before + r * padded + unit, kLanes) - fresh);
      store(after + r * padded + unit, state, kLanes);
      store(gru.output.at(row + r, at) + unit, state, count);
    }
  }
}

template <int kRows>
void run(const Gru& gru, const float* packed, int64_t row) {
  const int64_t padded = count_blocks(gru) * kLanes;
  std::vector<float> before(kRows * padded), after(kRows * padded);
  for (int r = 0; r < kRows; ++r)
    std::copy_n(gru.state + (row + r) * gru.hidden, gru.hidden, &before[r * padded]);
  for (int64_t done = 0; done < gru.length; ++done) {
    const int64_t at = gru.reverse ? gru.length - 1 - done : done;
    step<kRows>(gru, packed, row, at, before.data(), after.data());
    before.swap(after);
  }
  for (int r = 0; r < kRows; ++r)
    std::copy_n(&before[r * padded], gru.hidden, gru.state + (row + r) * gru.hidden);
}

void run_together(const Gru& gru, const float* packed, int64_t row, int64_t rows) {
  switch (rows) {
    case 1: return run<1>(gru, packed, row);
    case 2: return run<2>(gru, packed, row);
    case 3: return run<3>(gru, packed, row);
    default: return run<kTogether>(gru, packed, row);
  }
}

}  // namespace

// One layer: of one direction or of both, which share its rows.
extern "C" void gru_forward(const Gru* directions, int64_t num_directions, int64_t rows, int64_t threads) {
  std::vector<std::vector<float>> packed;
  for (int64_t each = 0; each < num_directions; ++each) packed.push_back(pack(directions[each]));
  const int64_t groups = (rows + kTogether - 1) / kTogether, units = groups * num_directions;
  in_parts(std::min(threads, units), units, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t direction = unit / groups, row = unit % groups * kTogether;
      run_together(directions[direction], packed[direction].data(), row, std::min(kTogether, rows - row));
    }
  });
}
