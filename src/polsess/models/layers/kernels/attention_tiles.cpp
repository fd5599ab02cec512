// Self-attention of bfloat16 heads on a CPU with tiles (AMX), there and back. As in attention.cpp a few queries, here a
// tile of 16, meet a block of keys at a time, and the sums of a softmax go on from block to block; scores and sums are
// float32, the weights of the values bfloat16.
// Layout: query, key, value [items, length, heads, size], strided, the last dimension contiguous; output likewise,
// contiguous; table [columns, size], contiguous, from the key farthest behind a query to the farthest ahead, then kFar
// columns more.
// On the way back the weights are computed anew, once by query and once by key, so that no tile has to be turned.

#include "tiles.h"

#if defined(POLSESS_TILES)
#include <algorithm>
#include <cmath>
#include <vector>

#include "attention.h"
#include "threads.h"

namespace {

constexpr int64_t kTile = 16, kDepth = 32;  // rows of a tile, and what it multiplies at a time
constexpr int64_t kKeys = 256;              // keys of a block
constexpr int64_t kQueries = 96;            // queries of a group, which meets one block of keys after the other
constexpr int64_t kFar = kKeys + kDepth;
constexpr float kLowest = -1e30f;

// A tile for each 32 numbers of up to 16 rows, whose row holds two numbers of each of them.
void pack(const uint16_t* rows, int64_t stride, int64_t count, int64_t size, Vec* tiles) {
  for (int64_t from = 0; from < size; from += kDepth, tiles += kTile) {
    Vec square[kTile] = {};
    const int64_t bytes = std::min(kDepth, size - from) * 2;
    for (int64_t row = 0; row < count; ++row) {
      const uint16_t* numbers = rows + row * stride + from;
      if (bytes == kDepth * 2) std::memcpy(&square[row], numbers, kDepth * 2);  // of a known size: no call
      else std::memcpy(&square[row], numbers, bytes);
    }
    transpose(square);
    std::copy_n(square, kTile, tiles);
  }
}

// out[row][column], of kCount tiles of columns, each `depth` tiles one after the other.
template <int kCount>
inline void multiply_some(const uint16_t* rows, int64_t stride, const Vec* columns, int64_t depth, float* out,
                          int64_t out_stride) {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (kCount == 4) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t at = 0; at < depth; ++at) {
    _tile_loadd(4, rows + at * kDepth, stride * 2);
    _tile_loadd(5, columns + at * kTile, 64);
    _tile_loadd(6, columns + (depth + at) * kTile, 64);
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 6);
    if constexpr (kCount == 4) {
      _tile_loadd(5, columns + (2 * depth + at) * kTile, 64);
      _tile_loadd(6, columns + (3 * depth + at) * kTile, 64);
      _tile_dpbf16ps(2, 4, 5);
      _tile_dpbf16ps(3, 4, 6);
    }
  }
  _tile_stored(0, out, out_stride * 4);
  _tile_stored(1, out + kTile, out_stride * 4);
  if constexpr (kCount == 4) {
    _tile_stored(2, out + 2 * kTile, out_stride * 4);
    _tile_stored(3, out + 3 * kTile, out_stride * 4);
  }
}

// The products of 16 rows with an even number of tiles of columns.
__attribute__((noinline)) void multiply(const uint16_t* rows, int64_t stride, const Vec* columns, int64_t depth,
                                        int64_t count, float* out, int64_t out_stride) {
  for (; count >= 4; count -= 4, columns += 4 * depth * kTile, out += 4 * kTile)
    multiply_some<4>(rows, stride, columns, depth, out, out_stride);
  if (count) multiply_some<2>(rows, stride, columns, depth, out, out_stride);
}

// Two rows beside each other in a row of each tile, [tiles of the size, blocks of 32 rows, rows].
void pair_rows(const uint16_t* rows, int64_t stride, int64_t count, int64_t size, Vec* tiles) {
  const int64_t blocks = count_blocks(count, kDepth);
  for (int64_t at = 0; at < count; at += 2, rows += 2 * stride)
    for (int64_t d = 0; d < size; d += kLanes) {
      const Ints first = __builtin_convertvector(load_as<Shorts>(rows + d, within(size, d)), Ints);
      Ints second = {};
      if (at + 1 < count)
        second = __builtin_convertvector(load_as<Shorts>(rows + stride + d, within(size, d)), Ints);
      tiles[(d / kTile * blocks + at / kDepth) * kTile + at % kDepth / 2] = (Vec)(first | second << 16);
    }
}

// The products of 16 rows of weights, kKeys apart, with two tiles of paired rows for each 32 of them, added to `to`.
__attribute__((noinline)) void add_up(const uint16_t* weights, const Vec* tiles, int64_t next, int64_t count,
                                      float* out) {
  _tile_zero(0);
  _tile_zero(1);
  for (; count > 0; --count, weights += kDepth, tiles += kTile) {
    _tile_loadd(4, weights, kKeys * 2);
    _tile_loadd(5, tiles, 64);
    _tile_loadd(6, tiles + next, 64);
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 6);
  }
  _tile_stored(0, out, kDepth * 4);
  _tile_stored(1, out + kTile, kDepth * 4);
}

// The products of 16 rows of weights with paired rows from a block on, added to rows of a width.
void mix(const uint16_t* weights, const Vec* pairs, int64_t blocks, int64_t block, int64_t count, float* to,
         int64_t width) {
  float added[kTile * kDepth];
  for (int64_t d = 0; d < width; d += kDepth) {
    add_up(weights, pairs + (d / kTile * blocks + block) * kTile, blocks * kTile, count, added);
    for (int64_t row = 0; row < kTile; ++row)
      for (int64_t part = 0; part < kDepth; part += kLanes)
        accumulate(to + row * width + d + part, load(&added[row * kDepth + part], kLanes), kLanes);
  }
}

// The lanes of so many, the others something else.
inline Vec only(int64_t count, Vec value, float otherwise) {
  const __mmask16 present = count <= 0 ? 0 : count >= kLanes ? 0xffff : (1u << count) - 1;
  return (Vec)_mm512_mask_blend_ps(present, (__m512)splat(otherwise), (__m512)value);
}

class Head {  // the heads of all items, one after the other
 public:
  explicit Head(const Attention<uint16_t>& given)
      : task(given), depth(count_blocks(given.size, kDepth)), width(depth * kDepth),
        blocks(count_blocks(given.length, kDepth)), scale(kLog2e / std::sqrt(static_cast<float>(given.size))),
        keys(2 * blocks * depth * kTile), values(width / kTile * blocks * kTile), queries(kQueries * width),
        mixed(kQueries * width), highest(kQueries), sums(kQueries), weights(kTile * kKeys), scores(kTile * kKeys),
        far(kTile * kFar) {
    if (!task.table) return;
    table.resize(count_blocks(task.table_columns, kTile) * depth * kTile);
    for (int64_t at = 0; at < task.table_columns; at += kTile)
      pack(task.table + at * task.size, task.size, std::min(kTile, task.table_columns - at), task.size,
           &table[at * depth]);
  }

  void attend(int64_t item, int64_t head) {
    const int64_t start = item * task.item_stride + head * task.head_stride;
    for (int64_t at = 0; at < task.length; at += kTile)
      pack(task.key + start + at * task.step_stride, task.step_stride, std::min(kTile, task.length - at), task.size,
           &keys[at * depth]);
    pair_rows(task.value + start, task.step_stride, task.length, task.size, values.data());
    for (int64_t first = 0; first < task.length; first += kQueries) {
      const int64_t count = std::min(kQueries, task.length - first);
      take(task.query + start + first * task.step_stride, count);
      for (int64_t at = 0; at < task.length; at += kKeys)
        for (int64_t row = 0; row < count; row += kTile) meet(first, row, at);
      uint16_t* output = task.output + ((item * task.length + first) * task.heads + head) * task.size;
      for (int64_t row = 0; row < count; ++row, output += task.heads * task.size)
        for (int64_t d = 0; d < task.size; d += kLanes)
          store_as(output + d, narrow(load(&mixed[row * width + d], kLanes) / sums[row]), within(task.size, d));
      if (task.totals) {
        float* totals = task.totals + (item * task.heads + head) * task.length + first;
        for (int64_t row = 0; row < count; ++row) totals[row] = highest[row] * scale + std::log2(sums[row]);
      }
    }
  }

 private:
  void take(const uint16_t* query, int64_t count) {
    for (int64_t row = 0; row < count; ++row)
      std::copy_n(query + row * task.step_stride, task.size, &queries[row * width]);
    std::fill(mixed.begin(), mixed.end(), 0.0f);
    std::fill(sums.begin(), sums.end(), 0.0f);
    std::fill(highest.begin(), highest.end(), kLowest);
  }

  // The tile of queries from `first + row` on and the block of keys from `at` on.
  void meet(int64_t first, int64_t row, int64_t at) {
    const int64_t count = std::min(kKeys, task.length - at), columns = round_up(count, kDepth);
    const uint16_t* tile = &queries[row * width];
    multiply(tile, width, &keys[at * depth], depth, columns / kTile, scores.data(), kKeys);
    const int64_t last = task.length - 1 - (first + row);  // the column of the first query and the first key
    const int64_t begin = std::max<int64_t>(0, last - (kTile - 1)) / kTile * kTile;
    if (task.table)
      multiply(tile, width, &table[(begin + at) * depth], depth, (columns + kDepth) / kTile, far.data(), kFar);
    weigh(row, at, count, columns, task.table ? last - begin : -1);
    mix(weights.data(), values.data(), blocks, at / kDepth, columns / kDepth, &mixed[row * width], width);
  }

  // Scores to powers of two of what they are below the highest of their query so far, and what was summed up before to
  // the same scale. Those of the distances begin at column `far_from` for the first query, one earlier for each other.
  void weigh(int64_t row, int64_t at, int64_t count, int64_t columns, int64_t far_from) {
    Vec most[kTile], totals[kTile];
    for (int64_t query = 0; query < kTile; ++query) {
      float* own = &scores[query * kKeys];
      const float* distant = far_from >= query ? &far[query * kFar + far_from - query] : nullptr;
      most[query] = splat(kLowest);
      for (int64_t k = 0; k < columns; k += kLanes) {
        Vec score = load(own + k, kLanes);
        if (distant) score += load(distant + k, kLanes);
        if (k + kLanes > count) score = only(count - k, score, kLowest);
        store(own + k, score, kLanes);
        most[query] = higher(score, most[query]);
      }
    }
    const Vec before = load(&highest[row], kLanes);
    Vec high = before;
    transpose(most);
    for (const Vec& of_all : most) high = higher(of_all, high);
    store(&highest[row], high, kLanes);
    for (int64_t query = 0; query < kTile; ++query) {
      const float* own = &scores[query * kKeys];
      totals[query] = splat(0.0f);
      for (int64_t k = 0; k < columns; k += kLanes) {
        const Vec power = exp2((load(own + k, kLanes) - high[query]) * scale);
        store_as(&weights[query * kKeys + k], narrow(power), kLanes);
        totals[query] += power;
      }
    }
    const Vec change = exp2((before - high) * scale);
    Vec sum = load(&sums[row], kLanes) * change;
    transpose(totals);
    for (const Vec& of_all : totals) sum += of_all;
    store(&sums[row], sum, kLanes);
    if (at == 0) return;
    for (int64_t query = 0; query < kTile; ++query)
      for (int64_t d = 0; d < width; d += kLanes) {
        float* kept = &mixed[(row + query) * width + d];
        store(kept, load(kept, kLanes) * change[query], kLanes);
      }
  }

  const Attention<uint16_t>& task;
  const int64_t depth, width, blocks;  // tiles of the size, what they hold, blocks of 32 keys
  const float scale;
  std::vector<Vec> keys, values, table;
  std::vector<uint16_t> queries;              // of a group, [kQueries, width]
  std::vector<float> mixed, highest, sums;    // likewise; [kQueries]
  std::vector<uint16_t> weights;              // of a tile, [kTile, kKeys]
  std::vector<float> scores, far;             // likewise, [kTile, kFar]
};

// The way back through heads, one after the other. Of a head, queries and the gradients of their outputs belong
// together, and keys and values do.
class HeadBack {
  struct Operand {  // rows, the same as columns of tiles, and paired
    explicit Operand(int64_t padded, int64_t width)
        : rows(padded * width), columns(padded * width / kDepth), pairs(padded * width / kDepth) {}

    // Once from afar, then from what lies near; beyond the last row and number are zeros.
    void take(const uint16_t* from, int64_t stride, int64_t length, int64_t size, int64_t width) {
      for (int64_t row = 0; row < length; ++row)
        for (int64_t d = 0; d < size; d += kLanes)
          store_as(&rows[row * width + d], load_as<Shorts>(from + row * stride + d, within(size, d)), kLanes);
      for (int64_t row = 0; row < length; row += kTile)
        pack(&rows[row * width], width, kTile, width, &columns[row * width / kDepth]);
      pair_rows(rows.data(), width, round_up(length, 2), width, pairs.data());
    }

    std::vector<uint16_t> rows;
    std::vector<Vec> columns, pairs;
  };

 public:
  explicit HeadBack(const AttentionGradients& given)
      : task(given), heard(given.heads), depth(count_blocks(heard.size, kDepth)), width(depth * kDepth),
        blocks(count_blocks(heard.length, kDepth)), scale(1.0f / std::sqrt(static_cast<float>(heard.size))),
        query(blocks * kDepth, width), key(query), value(query), gradient(query),
        totals(blocks * kDepth, -kLowest), means(blocks * kDepth), changes(kTile * kKeys), weights(kTile * kKeys),
        scores(kTile * kKeys), products(kTile * kKeys), change_sums(kTile * width), weight_sums(kTile * width) {}

  void run(int64_t item, int64_t head) {
    const int64_t start = item * heard.item_stride + head * heard.head_stride, stride = heard.step_stride;
    const int64_t apart = heard.heads * heard.size, first = item * heard.length * apart + head * heard.size;
    query.take(heard.query + start, stride, heard.length, heard.size, width);
    key.take(heard.key + start, stride, heard.length, heard.size, width);
    value.take(heard.value + start, stride, heard.length, heard.size, width);
    gradient.take(task.output + first, apart, heard.length, heard.size, width);
    std::copy_n(heard.totals + (item * heard.heads + head) * heard.length, heard.length, totals.begin());
    for (int64_t row = 0; row < heard.length; ++row) {
      Vec sum = {};
      for (int64_t d = 0; d < heard.size; d += kLanes) {
        const int count = within(heard.size, d);
        sum += widen(load_as<Shorts>(heard.output + first + row * apart + d, count)) *
               widen(load_as<Shorts>(task.output + first + row * apart + d, count));
      }
      means[row] = sum_of_lanes(sum);
    }
    for (int64_t row = 0; row < heard.length; row += kTile) {
      go_back<true>(row);
      write(change_sums, scale, task.query + start, row);
    }
    for (int64_t row = 0; row < heard.length; row += kTile) {
      go_back<false>(row);
      write(change_sums, scale, task.key + start, row);
      write(weight_sums, 1.0f, task.value + start, row);
    }
  }

 private:
  // A tile of queries against all keys, or of keys against all queries.
  template <bool of_queries>
  void go_back(int64_t row) {
    const Operand &own = of_queries ? query : key, &own_side = of_queries ? gradient : value;
    const Operand &other = of_queries ? key : query, &other_side = of_queries ? value : gradient;
    std::fill(change_sums.begin(), change_sums.end(), 0.0f);
    std::fill(weight_sums.begin(), weight_sums.end(), 0.0f);
    for (int64_t at = 0; at < heard.length; at += kKeys) {
      const int64_t count = std::min(kKeys, heard.length - at), columns = round_up(count, kDepth);
      multiply(&own.rows[row * width], width, &other.columns[at * depth], depth, columns / kTile, scores.data(),
               kKeys);
      multiply(&own_side.rows[row * width], width, &other_side.columns[at * depth], depth, columns / kTile,
               products.data(), kKeys);
      for (int64_t r = 0; r < kTile; ++r)
        for (int64_t k = 0, place = r * kKeys; k < columns; k += kLanes, place += kLanes) {
          const Vec total = of_queries ? splat(totals[row + r]) : load(&totals[at + k], kLanes);
          const Vec mean = of_queries ? splat(means[row + r]) : load(&means[at + k], kLanes);
          Vec weight = exp2(load(&scores[place], kLanes) * (scale * kLog2e) - total);
          if (of_queries && k + kLanes > count) weight = only(count - k, weight, 0.0f);
          store_as(&changes[place], narrow(weight * (load(&products[place], kLanes) - mean)), kLanes);
          if (!of_queries) store_as(&weights[place], narrow(weight), kLanes);
        }
      const int64_t block = at / kDepth, num_blocks = columns / kDepth;
      mix(changes.data(), other.pairs.data(), blocks, block, num_blocks, change_sums.data(), width);
      if (!of_queries)
        mix(weights.data(), other_side.pairs.data(), blocks, block, num_blocks, weight_sums.data(), width);
    }
  }

  void write(const std::vector<float>& sums, float factor, uint16_t* to, int64_t row) const {
    const int64_t count = std::min(kTile, heard.length - row);
    for (int64_t r = 0; r < count; ++r)
      for (int64_t d = 0; d < heard.size; d += kLanes)
        store_as(to + (row + r) * heard.step_stride + d, narrow(load(&sums[r * width + d], kLanes) * factor),
                 within(heard.size, d));
  }

  const AttentionGradients& task;
  const Attention<uint16_t>& heard;
  const int64_t depth, width, blocks;  // as of Head
  const float scale;
  Operand query, key, value, gradient;
  std::vector<float> totals;                    // of queries; beyond the last one so high that it weighs nothing
  std::vector<float> means;                     // of queries, what their weights' gradients are in the mean
  std::vector<uint16_t> changes, weights;       // of a tile, [kTile, kKeys]
  std::vector<float> scores, products;          // likewise
  std::vector<float> change_sums, weight_sums;  // likewise, [kTile, width]
};

}  // namespace

extern "C" void attend_in_tiles(const Attention<uint16_t>* task, int64_t items, int64_t threads) {
  const int64_t units = items * task->heads;
  in_parts(std::min(threads, units), units, [&](int64_t, int64_t first, int64_t last) {
    const TileSetting setting;
    Head head(*task);
    for (int64_t unit = first; unit < last; ++unit) head.attend(unit / task->heads, unit % task->heads);
  });
}

extern "C" void attend_back_in_tiles(const AttentionGradients* task, int64_t items, int64_t threads) {
  const int64_t units = items * task->heads.heads;
  in_parts(std::min(threads, units), units, [&](int64_t, int64_t first, int64_t last) {
    const TileSetting setting;
    HeadBack head(*task);
    for (int64_t unit = first; unit < last; ++unit)
      head.run(unit / task->heads.heads, unit % task->heads.heads);
  });
}
#endif
