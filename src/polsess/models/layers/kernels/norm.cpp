// Global layer normalisation of float32 features whose channels are innermost, on a CPU, with an optional PReLU: one
// pass for the moments, one for the result.
// Layout: x and y [items, size], size a multiple of channels; weight, bias [channels]; slopes [1 or channels].

#include <algorithm>
#include <vector>

#include "moments.h"
#include "threads.h"
#include "vectors.h"

extern "C" struct Norm {
  int64_t size, channels, num_slopes;  // num_slopes: 0 without PReLU
  const float *x, *weight, *bias, *slopes;
  float* y;  // may be x
  double eps;
};

namespace {

void apply(const Norm& norm, const float* x, float* y, const float* scale, const float* shift) {
  for (int64_t c = 0; c < norm.channels; c += kLanes) {
    const int count = static_cast<int>(std::min<int64_t>(kLanes, norm.channels - c));
    Vec value = load(x + c, count) * load(scale + c, count) + load(shift + c, count);
    if (norm.num_slopes) {
      const Vec slope = norm.num_slopes == 1 ? splat(norm.slopes[0]) : load(norm.slopes + c, count);
      value = value > splat(0.0f) ? value : value * slope;
    }
    store(y + c, value, count);
  }
}

void normalise_item(const Norm& norm, int64_t item, int64_t threads) {
  const float* x = norm.x + item * norm.size;
  float* y = norm.y + item * norm.size;
  const int64_t blocks = (norm.size + kBlock - 1) / kBlock, parts = std::min(threads, blocks);
  std::vector<Moments> of_parts(parts);
  in_parts(parts, blocks, [&](int64_t part, int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block)
      of_parts[part].join(moments(x + block * kBlock, std::min(kBlock, norm.size - block * kBlock)));
  });
  Moments all;
  for (const Moments& each : of_parts) all.join(each);
  const double factor = all.factor(norm.eps);
  std::vector<float> scale(norm.channels), shift(norm.channels);
  for (int64_t c = 0; c < norm.channels; ++c) {
    scale[c] = static_cast<float>(factor * norm.weight[c]);
    shift[c] = static_cast<float>(norm.bias[c] - all.mean * factor * norm.weight[c]);
  }
  in_parts(parts, norm.size / norm.channels, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t token = first; token < last; ++token)
      apply(norm, x + token * norm.channels, y + token * norm.channels, scale.data(), shift.data());
  });
}

}  // namespace

extern "C" void normalise(const Norm* norm, int64_t items, int64_t threads) {
  for (int64_t item = 0; item < items; ++item) normalise_item(*norm, item, threads);
}
