// A layer of long short-term memory or of gated recurrent units on a CPU, in float32, without gradients.
// A few sequences take each step together, so that a weight is loaded once for all of them; groups of these take it
// one after the other, so that the weights of some units stay in the nearest cache meanwhile.
// Layout: sequences [rows, length, width] by strides; input weight [gates hidden, inputs], hidden weight [gates hidden,
// hidden], bias [gates hidden]; states [rows, hidden]. Gates come in PyTorch's order.

#include <algorithm>
#include <type_traits>
#include <vector>

#include "threads.h"
#include "vectors.h"

extern "C" struct Direction {
  int64_t length, inputs, hidden, reverse;
  Rows input;  // the steps; with no inputs, what their products are: [rows, length, gates hidden]
  Rows output;
  const float *input_weight, *hidden_weight, *bias;
  float *state, *cell;  // the first ones, replaced by the last ones; units without a memory have no cell
};

namespace {

constexpr int64_t kPart = 48;  // sequences whose states stay in the second cache

inline Vec tanh(Vec x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

struct Lstm {
  static constexpr int kGates = 4;

  // The next state, from what was heard and the products with the state before.
  static Vec step(const Vec* heard, const Vec* sums, Vec, Vec& cell) {
    const Vec enter = sigmoid(heard[0] + sums[0]), forget = sigmoid(heard[1] + sums[1]);
    cell = forget * cell + enter * tanh(heard[2] + sums[2]);
    return sigmoid(heard[3] + sums[3]) * tanh(cell);
  }
};

struct Gru {
  static constexpr int kGates = 3;

  static Vec step(const Vec* heard, const Vec* sums, Vec before, Vec&) {
    const Vec reset = sigmoid(heard[0] + sums[0]), update = sigmoid(heard[1] + sums[1]);
    const Vec fresh = tanh(heard[2] + reset * sums[2]);
    return fresh + update * (before - fresh);
  }
};

int64_t count_blocks(int64_t units, int64_t of) { return (units + of - 1) / of; }

int64_t round_up(int64_t units, int64_t of) { return count_blocks(units, of) * of; }

int within(int64_t hidden, int64_t unit) { return static_cast<int>(std::min<int64_t>(kLanes, hidden - unit)); }

// Keeps a vector in a register, where the compiler would read it again from memory for each of its uses.
inline Vec in_register(Vec value) {
#if defined(__x86_64__)
  asm("" : "+v"(value));
#endif
  return value;
}

// Sequences that take all steps of a direction together. What a step multiplies lies in one row for each, the input
// before the state, and the rows beside each other: those of a tensor may lie so far apart that they push each other
// out of the cache.
template <class Cell>
class Part {
 public:
  Part(const Direction& direction, int64_t first, int64_t rows)
      : direction(direction), first(first), rows(rows), padded(round_up(direction.hidden, kLanes)),
        wide(direction.inputs + padded), taken(rows * wide), next(rows * wide), cell(rows * padded) {}

  // [blocks, 1 + inputs + hidden, gates, lanes]: the bias of a block of units, then its weights by their origin.
  static std::vector<Vec> pack(const Direction& direction) {
    const int64_t inputs = direction.inputs, hidden = direction.hidden, depth = 1 + inputs + hidden;
    std::vector<Vec> packed(count_blocks(hidden, kLanes) * depth * kGates);  // aligned, unlike one of numbers
    for (int64_t unit = 0; unit < hidden; ++unit)
      for (int gate = 0; gate < kGates; ++gate) {
        const int64_t row = gate * hidden + unit, block = unit / kLanes;
        float* to = reinterpret_cast<float*>(&packed[block * depth * kGates + gate]) + unit % kLanes;
        *to = direction.bias[row];
        for (int64_t from = 0; from < inputs; ++from)
          *(to += kGates * kLanes) = direction.input_weight[row * inputs + from];
        for (int64_t from = 0; from < hidden; ++from)
          *(to += kGates * kLanes) = direction.hidden_weight[row * hidden + from];
      }
    return packed;
  }

  void run(const Vec* packed) {
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(states(row), direction.hidden, &taken[row * wide + direction.inputs]);
      if (direction.cell) std::copy_n(cells(row), direction.hidden, &cell[row * padded]);
    }
    for (int64_t done = 0; done < direction.length; ++done) {
      take_step(packed, direction.reverse ? direction.length - 1 - done : done);
      taken.swap(next);
    }
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(&taken[row * wide + direction.inputs], direction.hidden, states(row));
      if (direction.cell) std::copy_n(&cell[row * padded], direction.hidden, cells(row));
    }
  }

  // So many rows that all their sums stay in registers.
  static constexpr int kTogether = (kLanes == 16 ? 24 : 12) / Cell::kGates;

 private:
  static constexpr int kGates = Cell::kGates;

  float* states(int64_t row) const { return direction.state + (first + row) * direction.hidden; }
  float* cells(int64_t row) const { return direction.cell + (first + row) * direction.hidden; }

  void take_step(const Vec* packed, int64_t at) {
    for (int64_t row = 0; row < rows; ++row)
      std::copy_n(direction.input.at(first + row, at), direction.inputs, &taken[row * wide]);
    const int64_t size = (1 + direction.inputs + direction.hidden) * kGates;
    for (int64_t unit = 0; unit < direction.hidden; unit += kLanes) {
      const Vec* block = packed + unit / kLanes * size;
      int64_t row = 0;
      for (; row + kTogether <= rows && row + kTogether + 1 != rows; row += kTogether)
        take_block<kTogether>(block, row, at, unit);
      for (; row + 2 <= rows; row += 2) take_block<2>(block, row, at, unit);
      if (row < rows) take_block<1>(block, row, at, unit);
    }
  }

  template <int kRows>
  void take_block(const Vec* block, int64_t row, int64_t at, int64_t unit) {
    Vec sums[kGates][kRows];
    for (int gate = 0; gate < kGates; ++gate, ++block)
      for (int r = 0; r < kRows; ++r) sums[gate][r] = *block;
    const float* from = &taken[row * wide];
    for (int64_t each = direction.inputs + direction.hidden; each > 0; --each, ++from) {
      Vec values[kRows];
      for (int r = 0; r < kRows; ++r) values[r] = splat(from[r * wide]);
      for (int gate = 0; gate < kGates; ++gate, ++block) {
        const Vec weight = in_register(*block);
        for (int r = 0; r < kRows; ++r) sums[gate][r] += weight * values[r];
      }
    }
    for (int r = 0; r < kRows; ++r) {
      Vec own[kGates];
      for (int gate = 0; gate < kGates; ++gate) own[gate] = sums[gate][r];
      finish(own, row + r, at, unit);
    }
  }

  void finish(const Vec* sums, int64_t row, int64_t at, int64_t unit) {
    const int count = within(direction.hidden, unit);
    const int64_t place = row * wide + direction.inputs + unit;
    Vec heard[kGates] = {};
    if (!direction.inputs)
      for (int gate = 0; gate < kGates; ++gate)
        heard[gate] = load(direction.input.at(first + row, at) + gate * direction.hidden + unit, count);
    Vec memory = load(&cell[row * padded + unit], kLanes);
    const Vec state = Cell::step(heard, sums, load(&taken[place], kLanes), memory);
    store(&cell[row * padded + unit], memory, kLanes);
    store(&next[place], state, kLanes);
    store(direction.output.at(first + row, at) + unit, state, count);
  }

  const Direction& direction;
  const int64_t first, rows, padded, wide;
  std::vector<float> taken, next, cell;
};

// All directions of a layer, which share its rows.
template <class Cell>
void run_layer(const Direction* directions, int64_t num_directions, int64_t rows, int64_t threads) {
  std::vector<std::vector<Vec>> packed;
  for (int64_t each = 0; each < num_directions; ++each) packed.push_back(Part<Cell>::pack(directions[each]));
  const int64_t share = round_up(count_blocks(rows * num_directions, threads), Part<Cell>::kTogether);
  const int64_t most = std::min(kPart, share), parts = count_blocks(rows, most), units = parts * num_directions;
  in_parts(std::min(threads, units), units, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t direction = unit / parts, row = unit % parts * most;
      Part<Cell>(directions[direction], row, std::min(most, rows - row)).run(packed[direction].data());
    }
  });
}

}  // namespace

extern "C" void lstm_forward(const Direction* directions, int64_t num_directions, int64_t rows, int64_t threads) {
  run_layer<Lstm>(directions, num_directions, rows, threads);
}

extern "C" void gru_forward(const Direction* directions, int64_t num_directions, int64_t rows, int64_t threads) {
  run_layer<Gru>(directions, num_directions, rows, threads);
}
