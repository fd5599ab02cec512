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
};
