// Philox4x32-10 and what is made of its words, shared by the CPU and CUDA kernels.
// Source: Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
#pragma once

#include <weft/tensor/dtype.h>

#include <cmath>

namespace weft {

struct Philox4 {
  uint32_t word[4];
};

/// The four words of one counter under one seed.
WEFT_HD inline Philox4 philox(uint64_t seed, uint64_t counter) {
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// Word i of the stream that starts at counter offset.
WEFT_HD inline uint32_t philox_word(uint64_t seed, uint64_t offset, int64_t i) {
  return philox(seed, offset + static_cast<uint64_t>(i) / 4).word[i % 4];
}

/// In [0, 1), 24 bits.
WEFT_HD inline float to_uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }
/// In [low, low + range), rounded to dtype d (not float64) and yet below high: u has as many bits as d holds, and the
/// value that rounding takes to high becomes low.
WEFT_HD inline float to_uniform(uint32_t word, float low, float range, float high, DType d) {
  const int bits = d == DType::bfloat16 ? 8 : d == DType::float16 ? 11 : 24;
  const float v = low + range * (static_cast<float>(word >> (32 - bits)) / static_cast<float>(1u << bits));
  const float rounded = d == DType::bfloat16  ? static_cast<float>(BFloat16(v))
                        : d == DType::float16 ? static_cast<float>(Float16(v))
                                              : v;
  return rounded < high ? rounded : low;
}
/// In [0, 1), 53 bits.
WEFT_HD inline double to_uniform(uint32_t high, uint32_t low) {
  return static_cast<double>((uint64_t{high} << 21) ^ (low >> 11)) * 0x1p-53;
}

/// Two independent normal values from two words (Box-Muller), in double so that every device agrees to rounding.
WEFT_HD inline void to_normal(uint32_t a, uint32_t b, double& x, double& y) {
  const double radius = std::sqrt(-2.0 * std::log((static_cast<double>(a) + 1.0) * 0x1p-32));
  const double angle = 6.283185307179586476925 * (static_cast<double>(b) * 0x1p-32);
  x = radius * std::cos(angle);
  y = radius * std::sin(angle);
}

}  // namespace weft
