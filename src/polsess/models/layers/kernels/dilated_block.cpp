// What lies between two pointwise convolutions of ConvTasNet, in inference on a CPU: offsets, PReLU, global layer
// normalisation, dilated depth-wise convolution and PReLU of channels-first features, in two passes, one of which only
// reads. The moments for the normalisation that follows are taken on the way; it is left to the product behind it.
// Layout: x [items, channels, length], y [items, channels, out_length], both float32 or bfloat16; by channel: offsets,
// weight, bias, taps [channels, taps], tap_bias.

#include <algorithm>
#include <vector>

#include "moments.h"
#include "threads.h"
#include "vectors.h"

extern "C" struct DilatedBlock {
  int64_t channels, length, out_length, taps, dilation, left, reflect, is_bfloat16;
  void *x, *y;
  const float *offsets, *weight, *bias, *tap_weight, *tap_bias;  // the first and the last may be null
  float slope, next_slope;
  double eps, next_eps;
  double* found;  // [items, 2]: mean and factor of y
};

namespace {

inline Vec activate(Vec value, float slope) { return value > splat(0.0f) ? value : value * slope; }

// The rows of one item, in one thread.
class Channels {
 public:
  Channels(const DilatedBlock& given, int64_t item)
      : block(given), item(item), right(std::max<int64_t>(0, given.out_length + reach() - given.left - given.length)),
        padded(given.left + given.length + right + kLanes), output(given.out_length + kLanes) {}

  Moments measure(int64_t channel) {
    read(channel, 1.0f, 0.0f);
    return in_blocks(inner(), block.length);
  }

  Moments convolve(int64_t channel, double mean, double factor) {
    const float scale = static_cast<float>(factor * block.weight[channel]);
    read(channel, scale, static_cast<float>(block.bias[channel] - mean * factor * block.weight[channel]));
    pad();
    const float offset = block.tap_bias ? block.tap_bias[channel] : 0.0f;
    const float* weights = block.tap_weight + channel * block.taps;
    const Numbers y = numbers(block.y, channel, block.out_length);
    for (int64_t at = 0; at < block.out_length; at += kLanes) {
      Vec sum = splat(offset);
      for (int64_t tap = 0; tap < block.taps; ++tap)
        sum += load(&padded[at + tap * block.dilation], kLanes) * weights[tap];
      sum = activate(sum, block.next_slope);
      store(&output[at], sum, kLanes);
      y.write(at, sum, within(block.out_length, at));
    }
    return in_blocks(output.data(), block.out_length);
  }

 private:
  int64_t reach() const { return block.dilation * (block.taps - 1); }

  float* inner() { return padded.data() + block.left; }

  Numbers numbers(void* of, int64_t channel, int64_t length) const {
    const int64_t at = (item * block.channels + channel) * length;
    return {static_cast<char*>(of) + at * (block.is_bfloat16 ? 2 : 4), block.is_bfloat16 != 0};
  }

  // Offset, PReLU and an affine map of a channel.
  void read(int64_t channel, float scale, float shift) {
    const Numbers x = numbers(block.x, channel, block.length);
    const float offset = block.offsets ? block.offsets[channel] : 0.0f;
    for (int64_t at = 0; at < block.length; at += kLanes) {
      const int count = within(block.length, at);
      store(inner() + at, activate(x.read(at, count) + offset, block.slope) * scale + shift, count);
    }
  }

  // Mirrors the borders, or sets them to zero.
  void pad() {
    float* first = inner();
    float* behind = first + block.length;
    for (int64_t at = 1; at <= block.left; ++at) first[-at] = block.reflect ? first[at] : 0.0f;
    for (int64_t at = 0; at < right; ++at) behind[at] = block.reflect ? behind[-2 - at] : 0.0f;
  }

  const DilatedBlock& block;
  const int64_t item, right;
  std::vector<float> padded, output;
};

template <class Work>
Moments over_channels(const DilatedBlock& block, int64_t item, int64_t threads, Work work) {
  const int64_t parts = std::min(threads, block.channels);
  std::vector<Moments> of_parts(parts);
  in_parts(parts, block.channels, [&](int64_t part, int64_t first, int64_t last) {
    Channels channels(block, item);
    for (int64_t channel = first; channel < last; ++channel) of_parts[part].join(work(channels, channel));
  });
  Moments all;
  for (const Moments& each : of_parts) all.join(each);
  return all;
}

}  // namespace

extern "C" void run_dilated_block(const DilatedBlock* given, int64_t items, int64_t threads) {
  for (int64_t item = 0; item < items; ++item) {
    const auto measure = [](Channels& channels, int64_t channel) { return channels.measure(channel); };
    const Moments before = over_channels(*given, item, threads, measure);
    const double mean = before.mean, factor = before.factor(given->eps);
    const auto convolve = [=](Channels& channels, int64_t channel) { return channels.convolve(channel, mean, factor); };
    const Moments after = over_channels(*given, item, threads, convolve);
    given->found[2 * item] = after.mean;
    given->found[2 * item + 1] = after.factor(given->next_eps);
  }
}
