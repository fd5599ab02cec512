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

constexpr int kTogether = kLanes == 16 ? 6 : 3;  // so that all sums of four gates stay in registers
constexpr int64_t kPart = 48;  // sequences whose states stay in the second cache

// The products of a block of units with the input, which came from outside.
struct Heard {
  const float* data;
  int64_t hidden;
  int count;

  Vec operator[](int gate) const { return load(data + gate * hidden, count); }
};

// e^-x, of x no farther from 0 than 27: beyond, sigmoid and tanh are what they are there to 1e-12, and three of these
// may be multiplied.
inline Vec decay(Vec x) { return exp2_within(clamp(x * -kLog2e, -40.0f, 40.0f)); }

struct Lstm {
  static constexpr int kGates = 4;
  static constexpr bool kAddsHeard = true;  // to the products with the state before

  // The next state, from the products and the state before. It and the cell are one fraction each of what sigmoids and
  // tanhs are made of, since a division takes as long as ten products.
  static inline Vec step(const Heard&, const Vec* sums, Vec, Vec& cell) {
    const Vec enter = 1.0f + decay(sums[0]), forget = 1.0f + decay(sums[1]), fresh = decay(2.0f * sums[2]);
    const Vec both = enter * (1.0f + fresh);
    cell = (cell * both + (1.0f - fresh) * forget) / (both * forget);
    const Vec leave = 1.0f + decay(sums[3]), shown = decay(2.0f * cell);
    return (1.0f - shown) / (leave * (1.0f + shown));
  }
};

struct Gru {
  static constexpr int kGates = 3;
  static constexpr bool kAddsHeard = false;

  static inline Vec step(const Heard& heard, const Vec* sums, Vec before, Vec&) {
    const Vec reset = sigmoid(heard[0] + sums[0]), update = sigmoid(heard[1] + sums[1]);
    const Vec fresh = 2.0f * sigmoid(2.0f * (heard[2] + reset * sums[2])) - 1.0f;
    return fresh + update * (before - fresh);
  }
};

int64_t count_blocks(int64_t units, int64_t of) { return (units + of - 1) / of; }

int64_t round_up(int64_t units, int64_t of) { return count_blocks(units, of) * of; }

int within(int64_t hidden, int64_t unit) { return static_cast<int>(std::min<int64_t>(kLanes, hidden - unit)); }

// Keeps a vector in a register, where the compiler would read it again from memory for each of its uses.
inline Vec in_register(Vec value) {
#if defined(__AVX__)
  asm("" : "+v"(value));
#endif
  return value;
}

// Adds the products of rows with the weights of a block. A function of its own, so that nothing else takes a register.
template <int kRows, int kGates>
__attribute__((noinline)) void multiply(const Vec* block, const float* from, int64_t wide, int64_t depth,
                                        Vec (&totals)[kRows][kGates]) {
  Vec sums[kRows][kGates];
  std::copy_n(&totals[0][0], kRows * kGates, &sums[0][0]);
  for (; depth > 0; --depth, ++from) {
    Vec values[kRows];
    for (int r = 0; r < kRows; ++r) values[r] = splat(from[r * wide]);
    for (int gate = 0; gate < kGates; ++gate, ++block) {
      const Vec weight = in_register(*block);
      for (int r = 0; r < kRows; ++r) sums[r][gate] += weight * values[r];
    }
  }
  std::copy_n(&sums[0][0], kRows * kGates, &totals[0][0]);
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
    const int count = within(direction.hidden, unit);
    Heard heard[kRows];
    Vec sums[kRows][kGates];
    for (int r = 0; r < kRows; ++r) {
      if (!direction.inputs)
        heard[r] = {direction.input.at(first + row + r, at) + unit, direction.hidden, count};
      for (int gate = 0; gate < kGates; ++gate) {
        sums[r][gate] = block[gate];
        if (Cell::kAddsHeard && !direction.inputs) sums[r][gate] += heard[r][gate];
      }
    }
    multiply<kRows, kGates>(block + kGates, &taken[row * wide], wide, direction.inputs + direction.hidden, sums);
    for (int r = 0; r < kRows; ++r) {
      const int64_t place = (row + r) * wide + direction.inputs + unit;
      float* memory = &cell[(row + r) * padded + unit];
      Vec changed = load(memory, kLanes);
      const Vec state = Cell::step(heard[r], sums[r], load(&taken[place], kLanes), changed);
      store(memory, changed, kLanes);
      store(&next[place], state, kLanes);
      store(direction.output.at(first + row + r, at) + unit, state, count);
    }
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
  const int64_t share = std::min(kPart, count_blocks(rows * num_directions, threads));
  const int64_t most = round_up(count_blocks(rows, count_blocks(rows, share)), kTogether);
  const int64_t parts = count_blocks(rows, most), units = parts * num_directions;
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
