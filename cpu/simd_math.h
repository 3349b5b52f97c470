// Elementary functions of float without branches or tables, for loops that the compiler vectorises (see simd.h).
//
// Largest error over all floats, in units in the last place (0.5 would be correct rounding):
//
//   vexp 1.1   vexpm1 1.6   vlog 0.9   vlog1p 1.5   vtanh 1.4   verf 2.0   vsigmoid 2.4
//
// Special values are those of <cmath>: NaN gives NaN, exp(inf) = inf, exp(-inf) = 0, log(0) = -inf, log(x < 0) = NaN.
// Overflow gives inf; results below FLT_MIN are denormal, save that vsigmoid flushes them to 0 (x < -87.7).
// They rely on (x + c) - c not being simplified: do not compile with -ffast-math.
//
// The double versions call <cmath>; they exist so that a kernel can be one template.
//
// Polynomials are minimax fits of relative error made for this file; the reductions are Cody's and Waite's, "Software
// Manual for the Elementary Functions" (1980).
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace weft::cpu {

namespace detail {

inline uint32_t bits_of(float x) { return std::bit_cast<uint32_t>(x); }

/// condition ? a : b, in a form that the compiler cannot turn back into a branch with a's and b's computations in its
/// arms, which would keep loops from being vectorised.
inline float choose(bool condition, float a, float b) {
  const uint32_t mask = condition ? 0xffffffffu : 0u;
  return std::bit_cast<float>((bits_of(a) & mask) | (bits_of(b) & ~mask));
}

/// min(|x|, limit); NaN gives limit.
inline float size_up_to(float limit, float x) {
  return std::bit_cast<float>(std::min(bits_of(x) & 0x7fffffffu, bits_of(limit)));
}

/// 2^n for n in [-126, 127]; 0 for n = -127.
inline float pow2(int32_t n) { return std::bit_cast<float>(static_cast<uint32_t>(n + 127) << 23); }

/// e^x = 2^n · (1 + r + square), where |r| <= log(2)/2 and square = r² · (1/2 + r/6 + ...).
struct ExpParts {
  int32_t n;
  float r, square;
};

inline ExpParts exp_parts(float x) {
  constexpr float shift = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer, held in the low bits
  const float shifted = x * 1.44269504f + shift;
  const float n = shifted - shift;
  // log(2) in two parts: the first has 10 bits, so n times it is exact without a fused multiply-add too.
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.381446607e-03f;
  p = p * r + 8.368780836e-03f;
  p = p * r + 4.166839272e-02f;
  p = p * r + 1.666651964e-01f;
  p = p * r + 4.999999404e-01f;
  return {std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(shift), r, r * r * p};
}

/// e^x where neither e^x nor 1/e^x leaves the range of float.
inline float exp_in_range(float x) {
  const ExpParts e = exp_parts(x);
  return (1.0f + (e.r + e.square)) * pow2(e.n);
}

}  // namespace detail

inline float vexp(float x) {
  x = detail::choose(x < -104.0f, -104.0f, x);  // e^-104 rounds to 0, e^89 to inf
  x = detail::choose(x > 89.0f, 89.0f, x);
  const detail::ExpParts e = detail::exp_parts(x);
  const int32_t half = e.n >> 1;  // 2^n alone may be out of range
  return (1.0f + (e.r + e.square)) * detail::pow2(half) * detail::pow2(e.n - half);
}

inline float vexpm1(float x) {
  float y = detail::choose(x < -18.0f, -18.0f, x);
  y = detail::choose(x > 89.0f, 89.0f, y);
  const detail::ExpParts e = detail::exp_parts(y);
  const float scale = detail::pow2(e.n - 1);  // half of 2^n, which is out of range for n = 128
  y = 2.0f * (scale * (e.r + e.square) + (scale - 0.5f));
  return detail::choose(x == 0.0f, x, y);  // keeps the sign of -0
}

inline float vlog(float x) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const bool denormal = x < std::numeric_limits<float>::min();
  const float scaled = x * (denormal ? 8388608.0f : 1.0f);
  // x = 2^n · m with m in [sqrt(1/2), sqrt(2))
  const uint32_t bits = detail::bits_of(scaled) - 0x3f3504f3u;
  const int32_t n = static_cast<int32_t>(bits) >> 23;
  const float m = std::bit_cast<float>((bits & 0x7fffffu) + 0x3f3504f3u);
  const float exponent = static_cast<float>(n - (denormal ? 23 : 0));
  const float f = m - 1.0f;
  float p = 6.746591628e-02f;  // log(1 + f) = f - f²/2 + f³ · p
  p = p * f - 1.167563871e-01f;
  p = p * f + 1.188817769e-01f;
  p = p * f - 1.240559220e-01f;
  p = p * f + 1.421955079e-01f;
  p = p * f - 1.666799635e-01f;
  p = p * f + 2.000211924e-01f;
  p = p * f - 2.500000894e-01f;
  p = p * f + 3.333331347e-01f;
  const float f2 = f * f;
  const float tail = f2 * f * p + exponent * -2.12194440e-4f - 0.5f * f2;
  float y = exponent * 0.693359375f + (f + tail);
  y = detail::choose(x < inf, y, x);
  return detail::choose(x > 0.0f, y, x == 0.0f ? -inf : std::numeric_limits<float>::quiet_NaN());
}

inline float vlog1p(float x) {
  const float u = 1.0f + x;
  const float lost = x - (u - 1.0f);  // what the rounding of u dropped
  const float y = vlog(u) + lost / u;
  const bool as_it_is = x == 0.0f || u == std::numeric_limits<float>::infinity();
  return detail::choose(as_it_is, x, detail::choose(u == 0.0f, -std::numeric_limits<float>::infinity(), y));
}

inline float vsigmoid(float x) {
  const detail::ExpParts parts = detail::exp_parts(-detail::size_up_to(105.0f, x));
  const float e = (1.0f + (parts.r + parts.square)) * detail::pow2(std::max(parts.n, -127));  // e^-|x|
  const float y = (x >= 0.0f ? 1.0f : e) / (1.0f + e);
  return detail::choose(x == x, y, x);
}

inline float vtanh(float x) {
  const float z = x * x;
  float p = -5.704978481e-03f;  // tanh(x) = x + x · z · p for |x| < 0.625
  p = p * z + 2.063907869e-02f;
  p = p * z - 5.373971164e-02f;
  p = p * z + 1.333144158e-01f;
  p = p * z - 3.333328068e-01f;
  const float size = std::fabs(x);
  const float small = size + size * z * p;
  const float t = detail::size_up_to(10.0f, x);  // tanh(10) rounds to 1
  const float large = 1.0f - 2.0f / (detail::exp_in_range(2.0f * t) + 1.0f);
  return std::copysign(detail::choose(size >= 0.625f, large, small), x);
}

inline float verf(float x) {
  const float z = x * x;
  float p = -6.090360112e-04f;  // erf(x) = x + x · p for |x| < 0.9
  p = p * z + 5.011962727e-03f;
  p = p * z - 2.677890845e-02f;
  p = p * z + 1.128214076e-01f;
  p = p * z - 3.761252463e-01f;
  p = p * z + 1.283791070e-01f;
  const float small = x + x * p;
  const float t = detail::size_up_to(4.0f, x);  // erf(4) rounds to 1
  float q = -1.971818565e-04f;                  // erf(t) = 1 - exp(-q)
  q = q * t + 3.055608831e-03f;
  q = q * t - 2.227709070e-02f;
  q = q * t + 1.040373668e-01f;
  q = q * t + 6.370597482e-01f;
  q = q * t + 1.127749562e+00f;
  q = q * t + 1.774937409e-04f;
  const float large = std::copysign(1.0f - detail::exp_in_range(-q), x);
  return detail::choose(std::fabs(x) >= 0.9f, large, small);
}

inline double vexp(double x) { return std::exp(x); }
inline double vexpm1(double x) { return std::expm1(x); }
inline double vlog(double x) { return std::log(x); }
inline double vlog1p(double x) { return std::log1p(x); }
inline double vsigmoid(double x) {
  const double e = std::exp(-std::fabs(x));
  return (x >= 0 ? 1 : e) / (1 + e);
}
inline double vtanh(double x) { return std::tanh(x); }
inline double verf(double x) { return std::erf(x); }

}  // namespace weft::cpu
