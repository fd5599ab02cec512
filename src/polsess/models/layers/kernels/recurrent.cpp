// A layer of long short-term memory or of gated recurrent units on a CPU, without gradients: in float32, or of
// bfloat16 products where the processor has tiles for them (AMX).
// A few sequences take each step together, so that a weight is loaded once for all of them; groups of these take it
// one after the other, so that the weights of some units stay in the nearest cache meanwhile.
// Layout: sequences [rows, length, width] by strides; input weight [gates hidden, inputs], hidden weight [gates hidden,
// hidden], bias [gates hidden]; states [rows, hidden]. Gates come in PyTorch's order.

#include <algorithm>
#include <vector>

#if defined(__AMX_BF16__) && defined(__AVX512DQ__) && defined(__linux__)
#define POLSESS_TILES
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

// Products in float32.
struct Plain {
  using Number = float;
  static constexpr int kTogether = kLanes == 16 ? 6 : 3;  // sequences, so that sums of four gates stay in registers
  static constexpr bool kPads = false;                    // fewer sequences to as many
  static constexpr int kDepth = 1;                        // what inputs and units are padded to a multiple of
  static constexpr int kInLane = 1;                       // weights

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
  static constexpr int kTogether = 16, kDepth = 32, kInLane = 2;
  static constexpr bool kPads = true;

  struct Setting {  // of this thread: tiles of 16 rows of 64 bytes
    Setting() {
      struct {
        uint8_t palette = 1, start = 0, reserved[14] = {};
        uint16_t bytes[16] = {};
        uint8_t rows[16] = {};
      } shape;
      for (int tile = 0; tile < 8; ++tile) shape.bytes[tile] = 64, shape.rows[tile] = 16;
      asm volatile("ldtilecfg %0" ::"m"(shape));
    }
    ~Setting() { _tile_release(); }
    Setting(const Setting&) = delete;
  };

  // A tile of weights: a row for each two of its depth, in which lie both of every unit.
  static void put(Vec* block, int gates, int64_t from, int gate, Vec weights) {
    Vec& row = block[(from / kDepth * gates + gate) * 16 + from % kDepth / 2];
    row = (Vec)((Ints)row | __builtin_convertvector(narrow(weights), Ints) << from % 2 * 16);
  }

  // As that of Plain. The compiler does not know what tiles read, so this must stay a function of its own.
  template <int kRows, int kGates>
  __attribute__((noinline)) static void multiply(const Vec* block, const uint16_t* from, int64_t wide, int64_t depth,
                                                 Vec (&totals)[kRows][kGates]) {
    static_assert(kRows == 16 && kGates == 4, "the tiles are numbered for these");
    constexpr int64_t kNext = sizeof totals[0];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (; depth > 0; depth -= kDepth, from += kDepth, block += 64) {
      _tile_loadd(4, from, wide * 2);
      _tile_loadd(5, block, 64);
      _tile_loadd(6, block + 16, 64);
      _tile_loadd(7, block + 32, 64);
      _tile_dpbf16ps(0, 4, 5);
      _tile_loadd(5, block + 48, 64);
      _tile_dpbf16ps(1, 4, 6);
      _tile_dpbf16ps(2, 4, 7);
      _tile_dpbf16ps(3, 4, 5);
    }
    _tile_stored(0, &totals[0][0], kNext);
    _tile_stored(1, &totals[0][1], kNext);
    _tile_stored(2, &totals[0][2], kNext);
    _tile_stored(3, &totals[0][3], kNext);
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
    const int64_t all = Product::kPads ? round_up(rows, kTogether) : rows;
    return count_blocks(all * wide * sizeof(Number), sizeof(Vec));
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
        const int64_t left = rows - row;
        some = Product::kPads || left >= 2 * kTogether ? kTogether : left > kTogether ? (left + 1) / 2 : left;
        take_rows<kTogether>(some, packed, row, at, unit);
      }
    }
  }

  template <int kRows>
  void take_rows(int64_t some, const Vec* block, int64_t row, int64_t at, int64_t unit) {
    if (some == kRows) return take_block<kRows>(block, row, at, unit);
    if constexpr (kRows > 1 && !Product::kPads) take_rows<kRows - 1>(some, block, row, at, unit);
  }

  template <int kRows>
  void take_block(const Vec* block, int64_t row, int64_t at, int64_t unit) {
    const int count = within(direction.hidden, unit);
    const int real = Product::kPads ? static_cast<int>(std::min<int64_t>(kRows, rows - row)) : kRows;
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
      numbers(next, row + r, sizes.start).write(unit, state, kLanes);
      direction.output.numbers(first + row + r, at).write(unit, state, count);
    }
  }

  const Direction& direction;
  const int64_t first, rows, padded;
  const Sizes sizes;
  const int64_t wide;
  std::vector<Vec> taken, next;
  std::vector<float> cell;
};

// All directions of a layer, which share its rows.
template <class Cell, class Product>
void run_layer(const Direction* directions, int64_t num_directions, int64_t rows, int64_t threads) {
  using Sequences = Part<Cell, Product>;
  std::vector<std::vector<Vec>> packed;
  for (int64_t each = 0; each < num_directions; ++each) packed.push_back(Sequences::pack(directions[each]));
  const int64_t share = std::min(kPart, count_blocks(rows * num_directions, threads));
  const int64_t most = round_up(count_blocks(rows, count_blocks(rows, share)), Product::kTogether);
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
  run_layer<Lstm, Plain>(directions, num_directions, rows, threads);
}

extern "C" void gru_forward(const Direction* directions, int64_t num_directions, int64_t rows, int64_t threads) {
  run_layer<Gru, Plain>(directions, num_directions, rows, threads);
}

// Whether this processor has tiles and the system lets this process use them.
extern "C" int64_t allow_tiles() {
#if defined(POLSESS_TILES)
  constexpr long kAskFor = 0x1023, kTileData = 18;  // of Linux: ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kAskFor, kTileData) == 0;
#else
  return 0;
#endif
}

#if defined(POLSESS_TILES)
extern "C" void lstm_forward_in_tiles(const Direction* directions, int64_t num_directions, int64_t rows,
                                      int64_t threads) {
  run_layer<Lstm, Tiles>(directions, num_directions, rows, threads);
}
#endif
