// Vectors of float32 and the functions of them that the kernels need.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512DQ__)
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;  // wider vectors than the registers go through memory
#endif
typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Shorts __attribute__((vector_size(kLanes * 2)));  // bfloat16
constexpr float kLog2e = 1.44269504088896341f;
constexpr float kLn2 = 0.693147180559945309f;

inline int64_t count_blocks(int64_t units, int64_t of) { return (units + of - 1) / of; }

inline int64_t round_up(int64_t units, int64_t of) { return count_blocks(units, of) * of; }

// Lanes of a vector that begins at one of so many numbers.
inline int within(int64_t all, int64_t at) { return static_cast<int>(std::min<int64_t>(kLanes, all - at)); }

template <class Lanes, class Number>
inline Lanes load_as(const Number* from, int count) {
  if (count == kLanes) {
    Lanes value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  Lanes rest = {};  // another variable, so that the one above stays in a register
  std::memcpy(&rest, from, count * sizeof(Number));
  return rest;
}

template <class Lanes, class Number>
inline void store_as(Number* to, Lanes value, int count) {
  if (count == kLanes) std::memcpy(to, &value, sizeof value);
  else std::memcpy(to, &value, count * sizeof(Number));
}

inline Vec load(const float* from, int count) { return load_as<Vec>(from, count); }

inline void store(float* to, Vec value, int count) { store_as(to, value, count); }

inline void accumulate(float* to, const Vec& value, int count) { store(to, load(to, count) + value, count); }

// The upper halves of float32 numbers, and back with the nearest of them.
inline Vec widen(Shorts value) { return (Vec)(__builtin_convertvector(value, Ints) << 16); }

inline Shorts narrow(Vec value) {
#if defined(__AVX512BF16__) && defined(__AVX512DQ__)
  return (Shorts)_mm512_cvtneps_pbh((__m512)value);
#else
  const Ints bits = (Ints)value;
  return __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, Shorts);
#endif
}

struct Numbers {  // of one position: float32 or bfloat16
  void* data;
  bool is_bfloat16;

  float* wide() const { return static_cast<float*>(data); }
  uint16_t* half() const { return static_cast<uint16_t*>(data); }

  Vec read(int64_t channel, int count) const {
    return is_bfloat16 ? widen(load_as<Shorts>(half() + channel, count)) : load(wide() + channel, count);
  }

  void write(int64_t channel, Vec value, int count) const {
    if (is_bfloat16) store_as(half() + channel, narrow(value), count);
    else store(wide() + channel, value, count);
  }

  void prefetch(int64_t channel) const {
    __builtin_prefetch(is_bfloat16 ? static_cast<void*>(half() + channel) : wide() + channel);
  }
};

struct Rows {  // a [rows, length, width] tensor whose last dimension is contiguous
  void* data;
  int64_t row_stride, step_stride, is_bfloat16;

  float* at(int64_t row, int64_t step) const { return numbers(row, step).wide(); }  // of float32
  Numbers numbers(int64_t row, int64_t step) const {
    const int64_t bytes = (row * row_stride + step * step_stride) * (is_bfloat16 ? 2 : 4);
    return {static_cast<char*>(data) + bytes, is_bfloat16 != 0};
  }
};

inline Vec splat(float value) { return value - Vec{}; }  // a sum would be computed, for the sake of -0

// Half of two vectors whose lanes are blocks of `apart`, taken in turn: the even ones of both, or the odd ones.
template <int apart, bool odd>
inline Vec every_other(Vec first, Vec second) {
#if defined(__clang__)
  Vec chosen;
  for (int lane = 0; lane < kLanes; ++lane)
    chosen[lane] = lane & apart ? second[odd ? lane : lane - apart] : first[odd ? lane + apart : lane];
  return chosen;
#else
  Ints from;
  for (int lane = 0; lane < kLanes; ++lane)
    from[lane] = lane & apart ? kLanes + (odd ? lane : lane - apart) : (odd ? lane + apart : lane);
  return __builtin_shuffle(first, second, from);
#endif
}

// As many rows as lanes become columns.
template <int apart = 1>
inline void transpose(Vec (&rows)[kLanes]) {
  for (int row = 0; row < kLanes; ++row) {
    if (row & apart) continue;
    const Vec first = rows[row], second = rows[row + apart];
    rows[row] = every_other<apart, false>(first, second);
    rows[row + apart] = every_other<apart, true>(first, second);
  }
  if constexpr (2 * apart < kLanes) transpose<2 * apart>(rows);
}

inline Vec higher(Vec first, Vec second) {
#if defined(__AVX512DQ__)
  return (Vec)_mm512_max_ps((__m512)first, (__m512)second);  // the second where one is no number
#else
  return first > second ? first : second;
#endif
}

inline float highest_lane(Vec of) {
#if defined(__AVX512DQ__)
  return _mm512_reduce_max_ps((__m512)of);
#else
  float high = of[0];
  for (int lane = 1; lane < kLanes; ++lane) high = of[lane] > high ? of[lane] : high;
  return high;
#endif
}

inline float sum_of_lanes(Vec of) {
#if defined(__AVX512DQ__)
  return _mm512_reduce_add_ps((__m512)of);
#else
  float sum = of[0];
  for (int lane = 1; lane < kLanes; ++lane) sum += of[lane];
  return sum;
#endif
}

// Numbers no lower and no higher than these; none stays none.
inline Vec clamp(Vec x, float low, float high) {
#if defined(__AVX512DQ__)
  return (Vec)_mm512_max_ps((__m512)splat(low), _mm512_min_ps((__m512)splat(high), (__m512)x));
#elif defined(__AVX__)
  return (Vec)_mm256_max_ps((__m256)splat(low), _mm256_min_ps((__m256)splat(high), (__m256)x));
#else
  x = splat(high) < x ? splat(high) : x;
  return splat(low) > x ? splat(low) : x;
#endif
}

// 2^x to 2e-7, of x from -126 to 127: a polynomial, exact at 0, covers what is left of the nearest integer, which goes
// to the exponent.
inline Vec exp2_within(Vec x) {
#if defined(__AVX512DQ__)
  const Vec rest = (Vec)_mm512_reduce_ps((__m512)x, 0);
#else
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  const Vec shifted = x + magic;
  const Vec rest = x - (shifted - magic);
#endif
  Vec p = rest * 1.3264727459e-3f + 9.6715126359e-3f;
  p = p * rest + 5.5507337422e-2f;
  p = p * rest + 2.4022242085e-1f;
  p = p * rest + 6.9314697760e-1f;
  p = p * rest + 1.0f;
#if defined(__AVX512DQ__)
  return (Vec)_mm512_scalef_ps((__m512)p, (__m512)(x - rest));
#else
  return (Vec)((Ints)p + ((Ints)shifted << 23));  // the magic number's own bits leave with the shift
#endif
}

inline Vec exp2(Vec x) {
#if !defined(__AVX512DQ__)  // whose instructions know overflow
  x = clamp(x, -126.0f, 127.0f);
#endif
  return exp2_within(x);
}

inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp2(x * -kLog2e)); }

inline Vec tanh(Vec x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

// 1 / x to 1e-7 of itself, of normal numbers up to 2^125: an estimate and a step of Newton's take less than a division.
inline Vec inverse(Vec x) {
#if defined(__AVX512DQ__)
  const Vec estimate = (Vec)_mm512_rcp14_ps((__m512)x);
  return estimate * (2.0f - x * estimate);
#else
  return 1.0f / x;
#endif
}

// log(1 + e) for e in [0, 1] to 2e-7 of itself, also near 0.
inline Vec log1p(Vec e) {
  Vec p = e * 5.2326914573e-3f - 2.9505227529e-2f;
  p = p * e + 7.8225933559e-2f;
  p = p * e - 1.3663244241e-1f;
  p = p * e + 1.9106006030e-1f;
  p = p * e - 2.4842982027e-1f;
  p = p * e + 3.3319096784e-1f;
  p = p * e - 4.9999493139e-1f;
  p = p * e + 9.9999996988e-1f;
  return p * e;
}

// The softplus, which in single precision is the identity from 20 on.
inline Vec step_size(Vec raw, bool softplus) {
  if (!softplus) return raw;
  const Vec above = raw > splat(0.0f) ? raw : splat(0.0f);
  return above + log1p(exp2((raw - 2.0f * above) * kLog2e));
}

struct Block {  // kLanes channels of one row
  int64_t row, channel;
  int count;
};

}  // namespace
