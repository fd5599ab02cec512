// Self-attention of float32 heads on a CPU, forward only. A few queries meet a block of keys at a time, so that their
// scores stay in the nearest cache; the sums of a softmax go on from block to block with the highest score so far.
// With a table, a score also has the product of its query with an embedding of the distance to its key. Neighbouring
// queries share the columns of the table that they are multiplied with, each reads its own from one earlier on.
// Layout: query, key, value [items, length, heads, size], strided, the last dimension contiguous; output likewise,
// contiguous; table [size, columns], from the key farthest behind a query to the farthest ahead, then two kPair
// columns more.

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention.h"
#include "threads.h"
#include "vectors.h"

namespace {

constexpr int kTile = 6;          // queries that share what is read of keys, values and the table
constexpr int64_t kKeys = 256;    // keys of a block
constexpr int64_t kQueries = 96;  // queries of a group, which meets one block of keys after the other
constexpr int64_t kPair = 2 * kLanes;  // as many sums as registers hold: fewer would wait for each other
constexpr int64_t kFar = kKeys + kPair;
constexpr float kLowest = -1e30f;

// out[row][column] = sum over d of rows[row][d] * columns[d][column], for whole pairs of vectors of columns.
void multiply(const float* rows, int64_t size, const float* columns, int64_t stride, int64_t count, float* out,
              int64_t out_stride) {
  for (int64_t at = 0; at < count; at += kPair) {
    Vec left[kTile] = {}, right[kTile] = {};
    for (int64_t d = 0; d < size; ++d) {
      const float* column = columns + d * stride + at;
      const Vec first = load(column, kLanes), second = load(column + kLanes, kLanes);
      for (int row = 0; row < kTile; ++row) {
        const Vec factor = splat(rows[row * size + d]);
        left[row] += factor * first;
        right[row] += factor * second;
      }
    }
    for (int row = 0; row < kTile; ++row) {
      store(out + row * out_stride + at, left[row], kLanes);
      store(out + row * out_stride + at + kLanes, right[row], kLanes);
    }
  }
}

class Head {  // the heads of all items, one after the other
 public:
  explicit Head(const Attention<float>& given)
      : task(given), width(round_up(given.size, kLanes)), padded(round_up(given.length, kPair)),
        keys(given.size * padded), values(padded * width), queries(kQueries * given.size), mixed(kQueries * width),
        highest(kQueries), sums(kQueries), scores(kTile * kKeys), far(kTile * kFar) {}

  void attend(int64_t item, int64_t head) {
    const int64_t start = item * task.item_stride + head * task.head_stride;
    for (int64_t l = 0; l < task.length; ++l) {
      const int64_t at = start + l * task.step_stride;
      for (int64_t d = 0; d < task.size; ++d) keys[d * padded + l] = task.key[at + d];
      std::copy_n(task.value + at, task.size, &values[l * width]);
    }
    for (int64_t first = 0; first < task.length; first += kQueries) {
      const int64_t count = std::min(kQueries, task.length - first);
      take(task.query + start + first * task.step_stride, count);
      for (int64_t at = 0; at < task.length; at += kKeys)
        for (int64_t row = 0; row < count; row += kTile) meet(first, row, at);
      float* output = task.output + ((item * task.length + first) * task.heads + head) * task.size;
      for (int64_t row = 0; row < count; ++row, output += task.heads * task.size)
        for (int64_t d = 0; d < task.size; ++d) output[d] = mixed[row * width + d] / sums[row];
    }
  }

 private:
  // The next queries, scaled so that a softmax is of powers of two.
  void take(const float* query, int64_t count) {
    const float scale = kLog2e / std::sqrt(static_cast<float>(task.size));
    std::fill(queries.begin(), queries.end(), 0.0f);
    for (int64_t row = 0; row < count; ++row)
      for (int64_t d = 0; d < task.size; ++d) queries[row * task.size + d] = scale * query[row * task.step_stride + d];
    std::fill(mixed.begin(), mixed.end(), 0.0f);
    std::fill(sums.begin(), sums.end(), 0.0f);
    std::fill(highest.begin(), highest.end(), kLowest);
  }

  // The tile of queries from `first + row` on and the block of keys from `at` on.
  void meet(int64_t first, int64_t row, int64_t at) {
    const int64_t count = std::min(kKeys, task.length - at), columns = round_up(count, kPair);
    const float* tile = &queries[row * task.size];
    multiply(tile, task.size, &keys[at], padded, columns, scores.data(), kKeys);
    const int64_t last = task.length - 1 - (first + row);  // the column of the first query and the first key
    const int64_t begin = std::max<int64_t>(0, last - (kTile - 1));
    if (task.table)
      multiply(tile, task.size, task.table + begin + at, task.table_columns, columns + kPair, far.data(), kFar);
    for (int64_t query = 0; query < kTile; ++query) {
      float* own = &scores[query * kKeys];
      const bool known = task.table && last >= query;
      const float high = raise(own, known ? &far[query * kFar + last - query - begin] : nullptr, count, columns);
      weigh(row + query, own, columns, std::max(high, highest[row + query]));
    }
    for (int64_t d = 0; d < width; d += kPair) {
      float* to = &mixed[row * width + d];
      const float* from = &values[at * width + d];
      if (d + kLanes < width) mix<1, kLanes>(to, from, count);
      else mix<2, 0>(to, from, count);  // behind the last key are zeros
    }
  }

  // Adds the scores of the distances; returns the highest of `count` scores and lowers those behind them.
  static float raise(float* own, const float* distant, int64_t count, int64_t columns) {
    Vec most = splat(kLowest);
    for (int64_t k = 0; k < columns; k += kLanes) {
      Vec score = load(own + k, kLanes);
      if (distant) store(own + k, score += load(distant + k, kLanes), kLanes);
      if (k + kLanes <= count) most = higher(score, most);
    }
    float high = highest_lane(most);
    for (int64_t k = count / kLanes * kLanes; k < count; ++k) high = std::max(high, own[k]);
    std::fill(own + count, own + columns, kLowest);
    return high;
  }

  // Scores of one query to powers of two below the highest, and what was summed up before to the same scale.
  void weigh(int64_t row, float* own, int64_t columns, float high) {
    Vec total = {};
    for (int64_t k = 0; k < columns; k += kLanes) {
      const Vec power = exp2(load(own + k, kLanes) - high);
      store(own + k, power, kLanes);
      total += power;
    }
    if (high > highest[row]) {
      const float before = std::exp2(highest[row] - high);
      sums[row] *= before;
      for (int64_t d = 0; d < width; ++d) mixed[row * width + d] *= before;
      highest[row] = high;
    }
    sums[row] += sum_of_lanes(total);
  }

  // Adds the weighted values of a key at a time, two vectors of each, or of two keys, one vector of each.
  template <int kTogether, int kApart>
  void mix(float* to, const float* from, int64_t count) {
    Vec left[kTile] = {}, right[kTile] = {};
    for (int64_t k = 0; k < count; k += kTogether) {
      const float *one = from + k * width, *other = one + (kTogether - 1) * width + kApart;
      const Vec first = load(one, kLanes), second = load(other, kLanes);
      for (int row = 0; row < kTile; ++row) {
        const float* weights = &scores[row * kKeys + k];
        left[row] += splat(weights[0]) * first;
        right[row] += splat(weights[kTogether - 1]) * second;
      }
    }
    for (int row = 0; row < kTile; ++row, to += width) {
      if (!kApart) left[row] += right[row];
      accumulate(to, left[row], kLanes);
      if (kApart) accumulate(to + kApart, right[row], kLanes);
    }
  }

  const Attention<float>& task;
  const int64_t width, padded;                        // size and length in whole vectors
  std::vector<float> keys, values;                    // [size, padded], [padded, width]
  std::vector<float> queries, mixed, highest, sums;   // of a group: [kQueries, size], [kQueries, width], [kQueries]
  std::vector<float> scores, far;                     // of a tile: [kTile, kKeys], [kTile, kFar]
};

}  // namespace

extern "C" void attend(const Attention<float>* task, int64_t items, int64_t threads) {
  const int64_t units = items * task->heads;
  in_parts(std::min(threads, units), units, [&](int64_t, int64_t first, int64_t last) {
    Head head(*task);
    for (int64_t unit = first; unit < last; ++unit) head.attend(unit / task->heads, unit % task->heads);
  });
}
