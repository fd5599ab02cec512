// Global layer normalisation of features whose channels are innermost, on a CPU, with an offset of each channel before
// and a PReLU behind, if wanted: one pass for the moments, one for the result.
// Layout: x and y [items, size], each float32 or bfloat16, size a multiple of channels; offsets, weight, bias
// [channels]; slopes [1 or channels].

#include <algorithm>
#include <vector>

#include "moments.h"
#include "threads.h"
#include "vectors.h"

extern "C" struct Norm {
  int64_t size, channels, num_slopes;  // num_slopes: 0 without PReLU
  const float *offsets, *weight, *bias, *slopes;  // the first may be null
  void *x, *y;  // may be the same
  int64_t x_is_bfloat16, y_is_bfloat16;
  double eps;
};

namespace {

Numbers numbers(void* of, int64_t at, bool is_bfloat16) {
  return {static_cast<char*>(of) + at * (is_bfloat16 ? 2 : 4), is_bfloat16};
}

// Of tokens, with the offsets.
Moments measure(const Norm& norm, int64_t at, int64_t tokens, std::vector<float>& copy) {
  const int64_t count = tokens * norm.channels;
  if (!norm.x_is_bfloat16 && !norm.offsets) return in_blocks(static_cast<float*>(norm.x) + at, count);
  copy.resize(count + kLanes);
  for (int64_t token = 0; token < count; token += norm.channels) {
    const Numbers x = numbers(norm.x, at + token, norm.x_is_bfloat16);
    for (int64_t c = 0; c < norm.channels; c += kLanes) {
      const int some = within(norm.channels, c);
      Vec value = x.read(c, some);
      if (norm.offsets) value += load(norm.offsets + c, some);
      store(&copy[token + c], value, some);
    }
  }
  return in_blocks(copy.data(), count);
}

void apply(const Norm& norm, int64_t at, const float* scale, const float* shift) {
  const Numbers x = numbers(norm.x, at, norm.x_is_bfloat16), y = numbers(norm.y, at, norm.y_is_bfloat16);
  for (int64_t c = 0; c < norm.channels; c += kLanes) {
    const int count = within(norm.channels, c);
    Vec value = x.read(c, count) * load(scale + c, count) + load(shift + c, count);
    if (norm.num_slopes) {
      const Vec slope = norm.num_slopes == 1 ? splat(norm.slopes[0]) : load(norm.slopes + c, count);
      value = value > splat(0.0f) ? value : value * slope;
    }
    y.write(c, value, count);
  }
}

void normalise_item(const Norm& norm, int64_t item, int64_t threads) {
  const int64_t start = item * norm.size, tokens = norm.size / norm.channels;
  const int64_t together = std::max<int64_t>(1, kBlock / norm.channels), blocks = (tokens + together - 1) / together;
  const int64_t parts = std::min(threads, blocks);
  std::vector<Moments> of_parts(parts);
  in_parts(parts, blocks, [&](int64_t part, int64_t first, int64_t last) {
    std::vector<float> copy;
    for (int64_t token = first * together; token < std::min(last * together, tokens); token += together)
      of_parts[part].join(
          measure(norm, start + token * norm.channels, std::min(together, tokens - token), copy));
  });
  Moments all;
  for (const Moments& each : of_parts) all.join(each);
  const double factor = all.factor(norm.eps);
  std::vector<float> scale(norm.channels), shift(norm.channels);
  for (int64_t c = 0; c < norm.channels; ++c) {
    const double offset = norm.offsets ? norm.offsets[c] : 0.0f;
    scale[c] = static_cast<float>(factor * norm.weight[c]);
    shift[c] = static_cast<float>(norm.bias[c] + (offset - all.mean) * factor * norm.weight[c]);
  }
  in_parts(parts, tokens, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t token = first; token < last; ++token)
      apply(norm, start + token * norm.channels, scale.data(), shift.data());
  });
}

}  // namespace

extern "C" void normalise(const Norm* norm, int64_t items, int64_t threads) {
  for (int64_t item = 0; item < items; ++item) normalise_item(*norm, item, threads);
}
