// A layer of long short-term memory or of gated recurrent units on a CPU: in float32 without gradients, or of
// bfloat16 products where the processor has tiles for them (AMX), long short-term memory then also with gradients.
// A few sequences take each step together, so that a weight is loaded once for all of them; groups of these take it
// one after the other, so that the weights of some units stay in the nearest cache meanwhile.
// Layout: sequences [rows, length, width] by strides; input weight [gates hidden, inputs], hidden weight [gates hidden,
// hidden], bias [gates hidden]; states [rows, hidden]. Gates come in PyTorch's order.

#include <algorithm>
#include <vector>

#include "threads.h"
#include "tiles.h"
#include "vectors.h"

struct Kept {  // of a block of units of a sequence in a step
  Shorts sums[4];  // what goes into the gates
  Vec cell;
};

extern "C" struct Direction {
  int64_t length, inputs, hidden, reverse;
  Rows input;  // the steps; with no inputs, what their products are: [rows, length, gates hidden]
  Rows output;
  const float *input_weight, *hidden_weight, *bias;
  float *state, *cell;  // the first ones, replaced by the last ones; units without a memory have no cell
  Kept* kept;           // [length, blocks of units, rows], receives what gradients are made of; or null
  int64_t rows;
};

// The way back through a direction. What goes into the gates lies there by blocks of units, [blocks, gates, lanes].
extern "C" struct Gradients {
  int64_t length, hidden, reverse, rows;
  const Kept* kept;
  Rows output;  // the gradients of the loss with respect to it
  const float *hidden_weight, *first_cell;
  float *state, *cell;  // with respect to the last ones, replaced by those with respect to the first ones
  Rows gates;           // receives those with respect to what goes into the gates
};

namespace {

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
    cell = (cell * both + (1.0f - fresh) * forget) * inverse(both * forget);
    const Vec leave = 1.0f + decay(sums[3]), shown = decay(2.0f * cell);
    return (1.0f - shown) * inverse(leave * (1.0f + shown));
  }
};

struct Gru {
  static constexpr int kGates = 3;
  static constexpr bool kAddsHeard = false;

  static inline Vec step(const Heard& heard, const Vec* sums, Vec before, Vec&) {
    const Vec reset = sigmoid(heard[0] + sums[0]), update = sigmoid(heard[1] + sums[1]);
    const Vec fresh = tanh(heard[2] + reset * sums[2]);
    return fresh + update * (before - fresh);
  }
};

// Keeps a vector in a register, where the compiler would read it again from memory for each of its uses.
inline Vec in_register(Vec value) {
#if defined(__AVX__)
  asm("" : "+v"(value));
#endif
  return value;
}

// Products in float32.
struct Plain {
  using Number = float;
  static constexpr int kTogether = kLanes == 16 ? 6 : 3;  // sequences, so that sums of four gates stay in registers
  static constexpr int kMultiple = 1;                     // to which sequences are padded
  static constexpr int kDepth = 1;                        // what inputs and units are padded to a multiple of
  static constexpr int kInLane = 1;                       // weights

  static constexpr bool kKeeps = false;                   // what gradients are made of

  struct Setting {};

  static void put(Vec* block, int gates, int64_t from, int gate, Vec weights) { block[from * gates + gate] = weights; }

  // The products of rows with the weights of a block. A function of its own, so that nothing else takes a register.
  template <int kRows, int kGates>
  __attribute__((noinline)) static void multiply(const Vec* block, const float* from, int64_t wide, int64_t depth,
                                                 Vec (&totals)[kRows][kGates]) {
    Vec sums[kRows][kGates] = {};
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
};

#if defined(POLSESS_TILES)
// Products of bfloat16 numbers, added up in float32.
struct Tiles {
  using Number = uint16_t;
  static constexpr int kTogether = 32, kMultiple = 16, kDepth = 32, kInLane = 2;
  static constexpr bool kKeeps = true;

  using Setting = TileSetting;

  // A tile of weights: a row for each two of its depth, in which lie both of every unit.
  static void put(Vec* block, int gates, int64_t from, int gate, Vec weights) {
    Vec& row = block[(from / kDepth * gates + gate) * 16 + from % kDepth / 2];
    row = (Vec)((Ints)row | __builtin_convertvector(narrow(weights), Ints) << from % 2 * 16);
  }

  // As that of Plain.
  template <int kRows, int kGates>
  __attribute__((noinline)) static void multiply(const Vec* block, const uint16_t* from, int64_t wide, int64_t depth,
                                                 Vec (&totals)[kRows][kGates]) {
    static_assert(kRows % 16 == 0 && kRows <= 32 && kGates % 2 == 0, "the tiles are numbered for these");
    constexpr int64_t kNext = sizeof totals[0];
    for (int gate = 0; gate < kGates; gate += 2) {
      const Vec* weights = block + gate * 16;
      const uint16_t* values = from;
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int64_t left = depth; left > 0; left -= kDepth, values += kDepth, weights += kGates * 16) {
        _tile_loadd(4, values, wide * 2);
        _tile_loadd(6, weights, 64);
        _tile_loadd(7, weights + 16, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if constexpr (kRows == 32) {
          _tile_loadd(5, values + 16 * wide, wide * 2);
          _tile_dpbf16ps(2, 5, 6);
          _tile_dpbf16ps(3, 5, 7);
        }
      }
      _tile_stored(0, &totals[0][gate], kNext);
      _tile_stored(1, &totals[0][gate + 1], kNext);
      if constexpr (kRows == 32) {
        _tile_stored(2, &totals[16][gate], kNext);
        _tile_stored(3, &totals[16][gate + 1], kNext);
      }
    }
  }
};
#endif

void carry(const Numbers& from, const Numbers& to, int64_t count) {
  for (int64_t each = 0; each < count; each += kLanes) {
    const int some = within(count, each);
    to.write(each, from.read(each, some), some);
  }
}

// Sequences that take all steps of a direction together. What a step multiplies lies in one row for each, the input
// before the state, and the rows beside each other: those of a tensor may lie so far apart that they push each other
// out of the cache.
template <class Cell, class Product>
class Part {
  static constexpr int kGates = Cell::kGates, kTogether = Product::kTogether;
  using Number = typename Product::Number;

  struct Sizes {
    explicit Sizes(const Direction& direction)
        : start(round_up(direction.inputs, Product::kDepth)),
          depth(start + round_up(direction.hidden, Product::kDepth)),
          block((1 + depth / Product::kInLane) * kGates) {}

    const int64_t start;  // of the state, in a row
    const int64_t depth;  // of a product
    const int64_t block;  // vectors: the bias of some units, then their weights
  };

 public:
  Part(const Direction& direction, int64_t first, int64_t rows)
      : direction(direction), first(first), rows(rows), padded(round_up(direction.hidden, kLanes)), sizes(direction),
        wide(sizes.start + round_up(direction.hidden, std::max(kLanes, Product::kDepth))),
        taken(count_vectors()), next(count_vectors()), cell(rows * padded) {}

  // [blocks of units, vectors]: biases, then weights by their origin.
  static std::vector<Vec> pack(const Direction& direction) {
    const Sizes sizes(direction);
    const int64_t hidden = direction.hidden;
    std::vector<Vec> packed(count_blocks(hidden, kLanes) * sizes.block);  // aligned, unlike one of numbers
    for (int64_t unit = 0; unit < hidden; unit += kLanes)
      for (int gate = 0; gate < kGates; ++gate) {
        Vec* block = &packed[unit / kLanes * sizes.block];
        const int64_t row = gate * hidden + unit;
        const int count = within(hidden, unit);
        block[gate] = load(direction.bias + row, count);
        const auto put = [&](const float* weights, int64_t depth, int64_t place) {
          for (int64_t from = 0; from < depth; from += kLanes) {
            Vec square[kLanes] = {};
            const int some = within(depth, from);
            for (int each = 0; each < count; ++each) square[each] = load(weights + (row + each) * depth + from, some);
            transpose(square);
            for (int each = 0; each < some; ++each)
              Product::put(block + kGates, kGates, place + from + each, gate, square[each]);
          }
        };
        put(direction.input_weight, direction.inputs, 0);
        put(direction.hidden_weight, hidden, sizes.start);
      }
    return packed;
  }

  void run(const Vec* packed) {
    [[maybe_unused]] const typename Product::Setting setting;
    for (int64_t row = 0; row < rows; ++row) {
      carry(states(row), numbers(taken, row, sizes.start), direction.hidden);
      if (direction.cell) std::copy_n(cells(row), direction.hidden, &cell[row * padded]);
    }
    for (int64_t done = 0; done < direction.length; ++done) {
      take_step(packed, direction.reverse ? direction.length - 1 - done : done);
      taken.swap(next);
    }
    for (int64_t row = 0; row < rows; ++row) {
      carry(numbers(taken, row, sizes.start), states(row), direction.hidden);
      if (direction.cell) std::copy_n(&cell[row * padded], direction.hidden, cells(row));
    }
  }

 private:
  int64_t count_vectors() const {
    return count_blocks(round_up(rows, Product::kMultiple) * wide * sizeof(Number), sizeof(Vec));
  }

  Number* place(std::vector<Vec>& of, int64_t row) const { return reinterpret_cast<Number*>(of.data()) + row * wide; }
  Numbers numbers(std::vector<Vec>& of, int64_t row, int64_t from) const {
    return {place(of, row) + from, Product::kInLane == 2};
  }
  Numbers states(int64_t row) const { return {direction.state + (first + row) * direction.hidden, false}; }
  float* cells(int64_t row) const { return direction.cell + (first + row) * direction.hidden; }

  void take_step(const Vec* packed, int64_t at) {
    for (int64_t row = 0; row < rows; ++row)
      carry(direction.input.numbers(first + row, at), numbers(taken, row, 0), direction.inputs);
    for (int64_t unit = 0; unit < direction.hidden; unit += kLanes, packed += sizes.block) {
      for (int64_t row = 0, some; row < rows; row += some) {
        const int64_t left = round_up(rows - row, Product::kMultiple), half = (left + 1) / 2;
        some = left >= 2 * kTogether ? kTogether : left > kTogether ? round_up(half, Product::kMultiple) : left;
        take_rows<kTogether>(some, packed, row, at, unit);
      }
    }
  }

  template <int kRows>
  void take_rows(int64_t some, const Vec* block, int64_t row, int64_t at, int64_t unit) {
    if (some == kRows) return take_block<kRows>(block, row, at, unit);
    if constexpr (kRows > Product::kMultiple) take_rows<kRows - Product::kMultiple>(some, block, row, at, unit);
  }

  template <int kRows>
  void take_block(const Vec* block, int64_t row, int64_t at, int64_t unit) {
    const int count = within(direction.hidden, unit);
    const int real = Product::kMultiple > 1 ? static_cast<int>(std::min<int64_t>(kRows, rows - row)) : kRows;
    Vec sums[kRows][kGates];
    Product::multiply(block + kGates, place(taken, row), wide, sizes.depth, sums);
    for (int r = 0; r < real; ++r) {
      Heard heard = {};
      if (!direction.inputs) heard = {direction.input.at(first + row + r, at) + unit, direction.hidden, count};
      for (int gate = 0; gate < kGates; ++gate) {
        sums[r][gate] += block[gate];
        if (Cell::kAddsHeard && !direction.inputs) sums[r][gate] += heard[gate];
      }
      float* memory = &cell[(row + r) * padded + unit];
      Vec changed = load(memory, kLanes);
      const Vec before = numbers(taken, row + r, sizes.start).read(unit, kLanes);
      const Vec state = Cell::step(heard, sums[r], before, changed);
      store(memory, changed, kLanes);
      if constexpr (Product::kKeeps)
        if (direction.kept) keep(sums[r], changed, at * padded / kLanes + unit / kLanes, first + row + r);
      numbers(next, row + r, sizes.start).write(unit, state, kLanes);
      direction.output.numbers(first + row + r, at).write(unit, state, count);
    }
  }

  void keep(const Vec* sums, Vec changed, int64_t block, int64_t row) const {
    Kept& kept = direction.kept[block * direction.rows + row];
    for (int gate = 0; gate < kGates; ++gate) kept.sums[gate] = narrow(sums[gate]);
    kept.cell = changed;
  }

  const Direction& direction;
  const int64_t first, rows, padded;
  const Sizes sizes;
  const int64_t wide;
  std::vector<Vec> taken, next;
  std::vector<float> cell;
};

#if defined(POLSESS_TILES)
// Sequences that go all steps of a direction back together. What changes what goes into the gates of a sequence lies
// in one row, to be multiplied with the weights of the state before.
class WayBack {
  static constexpr int kMultiple = Tiles::kMultiple, kGates = Lstm::kGates;
  static constexpr int64_t kUnits = 4 * kLanes;  // of a product, which makes as many vectors as of four gates

 public:
  WayBack(const Gradients& direction, int64_t first, int64_t rows)
      : direction(direction), first(first), rows(rows), padded(round_up(direction.hidden, kUnits)),
        depth(depth_of(direction)), changes(round_up(rows, kMultiple) * depth / Tiles::kInLane / kLanes),
        states(round_up(rows, kMultiple) * padded), cell(rows * padded) {}

  // [blocks of units, vectors]: weights by the gate that they belong to.
  static std::vector<Vec> pack(const Gradients& direction) {
    const int64_t hidden = direction.hidden, size = depth_of(direction) / Tiles::kInLane * 4;
    std::vector<Vec> packed(count_blocks(hidden, kUnits) * size);
    for (int64_t unit = 0; unit < hidden; unit += kLanes)
      for (int gate = 0; gate < kGates; ++gate)
        for (int64_t from = 0; from < hidden; ++from)
          Tiles::put(&packed[unit / kUnits * size], 4, (from / kLanes * kGates + gate) * kLanes + from % kLanes,
                     static_cast<int>(unit % kUnits / kLanes),
                     load(direction.hidden_weight + (gate * hidden + from) * hidden + unit, within(hidden, unit)));
    return packed;
  }

  void run(const Vec* packed) {
    const Tiles::Setting setting;
    const int64_t hidden = direction.hidden;
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(direction.state + (first + row) * hidden, hidden, &states[row * padded]);
      std::copy_n(direction.cell + (first + row) * hidden, hidden, &cell[row * padded]);
    }
    for (int64_t left = direction.length - 1; left >= 0; --left) {
      const int64_t at = direction.reverse ? direction.length - 1 - left : left;
      for (int64_t unit = 0; unit < hidden; unit += kLanes)
        for (int64_t row = 0; row < rows; ++row) change_gates(row, at, unit, left == 0);
      multiply(packed);
    }
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(&states[row * padded], hidden, direction.state + (first + row) * hidden);
      std::copy_n(&cell[row * padded], hidden, direction.cell + (first + row) * hidden);
    }
  }

 private:
  static int64_t depth_of(const Gradients& direction) { return round_up(direction.hidden, kLanes) * kGates; }

  const Kept& kept(int64_t sequence, int64_t at, int64_t unit) const {
    const int64_t blocks = count_blocks(direction.hidden, kLanes);
    return direction.kept[(at * blocks + unit / kLanes) * direction.rows + sequence];
  }

  uint16_t* place(int64_t row) { return reinterpret_cast<uint16_t*>(changes.data()) + row * depth; }

  void change_gates(int64_t row, int64_t at, int64_t unit, bool is_first) {
    const int64_t sequence = first + row;
    const int count = within(direction.hidden, unit);
    const Kept& now = kept(sequence, at, unit);
    const Vec before = is_first ? load(direction.first_cell + sequence * direction.hidden + unit, count)
                                : kept(sequence, direction.reverse ? at + 1 : at - 1, unit).cell;
    const auto opened = [&](int gate) { return inverse(1.0f + decay(widen(now.sums[gate]))); };
    const auto curved = [&](Vec x) { return 2.0f * inverse(1.0f + decay(2.0f * x)) - 1.0f; };
    const Vec enter = opened(0), forget = opened(1), fresh = curved(widen(now.sums[2])), leave = opened(3);
    const Vec shown = curved(now.cell);
    const Vec state = load(&states[row * padded + unit], kLanes) +
                      direction.output.numbers(sequence, at).read(unit, count);
    float* memory = &cell[row * padded + unit];
    const Vec changed = load(memory, kLanes) + state * leave * (1.0f - shown * shown);
    store(memory, changed * forget, kLanes);
    const Shorts gates[] = {narrow(changed * fresh * enter * (1.0f - enter)),
                            narrow(changed * before * forget * (1.0f - forget)),
                            narrow(changed * enter * (1.0f - fresh * fresh)),
                            narrow(state * shown * leave * (1.0f - leave))};
    for (uint16_t* to : {place(row), direction.gates.numbers(sequence, at).half()})
      std::memcpy(to + unit * kGates, gates, sizeof gates);
  }

  void multiply(const Vec* packed) {
    for (int64_t unit = 0; unit < padded; unit += kUnits, packed += depth / Tiles::kInLane * 4)
      for (int64_t row = 0; row < rows; row += Tiles::kTogether)
        if (rows - row > kMultiple) multiply<Tiles::kTogether>(packed, row, unit);
        else multiply<kMultiple>(packed, row, unit);
  }

  template <int kRows>
  void multiply(const Vec* block, int64_t row, int64_t unit) {
    Vec sums[kRows][4];
    Tiles::multiply(block, place(row), depth, depth, sums);
    for (int r = 0; r < kRows; ++r)
      for (int part = 0; part < 4; ++part)
        store(&states[(row + r) * padded + unit + part * kLanes], sums[r][part], kLanes);
  }

  const Gradients& direction;
  const int64_t first, rows, padded, depth;
  std::vector<Vec> changes;
  std::vector<float> states, cell;
};
#endif

// All directions of a layer, which share its rows.
template <class Sequences, int kTogether, class Task>
void run_layer(const Task* directions, int64_t num_directions, int64_t rows, int64_t threads) {
  std::vector<std::vector<Vec>> packed;
  for (int64_t each = 0; each < num_directions; ++each) packed.push_back(Sequences::pack(directions[each]));
  const int64_t share = std::min(kPart, count_blocks(rows * num_directions, threads));
  const int64_t most = round_up(count_blocks(rows, count_blocks(rows, share)), kTogether);
  const int64_t parts = count_blocks(rows, most), units = parts * num_directions;
  in_parts(std::min(threads, units), units, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t direction = unit / parts, row = unit % parts * most;
      Sequences(directions[direction], row, std::min(most, rows - row)).run(packed[direction].data());
    }
  });
}

}  // namespace

extern "C" void lstm_forward(const Direction* directions, int64_t num_directions, int64_t rows, int64_t threads) {
  run_layer<Part<Lstm, Plain>, Plain::kTogether>(directions, num_directions, rows, threads);
}

extern "C" void gru_forward(const Direction* directions, int64_t num_directions, int64_t rows, int64_t threads) {
  run_layer<Part<Gru, Plain>, Plain::kTogether>(directions, num_directions, rows, threads);
}

#if defined(POLSESS_TILES)
extern "C" void lstm_forward_in_tiles(const Direction* directions, int64_t num_directions, int64_t rows,
                                      int64_t threads) {
  run_layer<Part<Lstm, Tiles>, Tiles::kTogether>(directions, num_directions, rows, threads);
}

extern "C" void lstm_backward_in_tiles(const Gradients* directions, int64_t num_directions, int64_t rows,
                                       int64_t threads) {
  run_layer<WayBack, Tiles::kTogether>(directions, num_directions, rows, threads);
}
#endif
