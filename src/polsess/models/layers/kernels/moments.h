// Mean and variance of many float32 numbers: of blocks that the nearest cache holds, about the mean of each, and then
// put together.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "vectors.h"

namespace {

constexpr int64_t kBlock = 4096;

struct Moments {
  double count = 0, mean = 0, squares = 0;  // squares: summed distances from the mean, squared

  void join(const Moments& other) {
    const double total = count + other.count, step = other.mean - mean;
    mean += step * other.count / total;
    squares += other.squares + step * step * count * other.count / total;
    count = total;
  }

  // What a number less the mean is multiplied with.
  double factor(double eps) const { return 1.0 / std::sqrt(squares / count + eps); }
};

double sum(Vec value) {
  double total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += value[lane];
  return total;
}

template <class Term>
double add_up(const float* x, int64_t count, Term term) {
  Vec first = {}, second = {};
  int64_t at = 0;
  for (; at + 2 * kLanes <= count; at += 2 * kLanes) {
    first += term(load(x + at, kLanes));
    second += term(load(x + at + kLanes, kLanes));
  }
  double total = sum(first) + sum(second);
  for (; at < count; ++at) total += term(splat(x[at]))[0];
  return total;
}

Moments moments(const float* x, int64_t count) {
  const double mean = add_up(x, count, [](Vec value) { return value; }) / count;
  const float centre = static_cast<float>(mean);
  const double squares = add_up(x, count, [centre](Vec value) { return (value - centre) * (value - centre); });
  const double off = mean - centre;
  return {static_cast<double>(count), mean, squares - off * off * count};
}

Moments in_blocks(const float* x, int64_t count) {
  Moments all;
  for (int64_t at = 0; at < count; at += kBlock) all.join(moments(x + at, std::min(kBlock, count - at)));
  return all;
}

}  // namespace
