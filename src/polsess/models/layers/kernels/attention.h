// What the kernels of attention take: of float32 and of bfloat16.

#pragma once

#include <cstdint>

template <class Number>
struct Attention {
  int64_t length, heads, size;
  int64_t item_stride, step_stride, head_stride;
  const Number *query, *key, *value;
  const Number* table;  // null where absent
  int64_t table_columns;
  Number* output;
  float* totals;  // of bfloat16: [items, heads, length], receives the binary logarithms of the sums of weights; or null
};

// The way back, of bfloat16 without a table. Heads and outputs are those of the way there, with their totals.
struct AttentionGradients {
  Attention<uint16_t> heads;
  const uint16_t* output;         // gradients with respect to it, laid out as it is
  uint16_t *query, *key, *value;  // receive those with respect to these, laid out as they are
};
