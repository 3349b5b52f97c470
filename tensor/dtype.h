// Element types, and how a function over a run-time dtype becomes one over a C++ type.
#pragma once

#include <weft/tensor/error.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#ifdef __CUDACC__
#define WEFT_HD __host__ __device__
#else
#define WEFT_HD
#endif

namespace weft {

enum class DType : uint8_t { float64, float32, bfloat16, float16, int64, int32, uint8, boolean };

inline constexpr DType float64 = DType::float64;
inline constexpr DType float32 = DType::float32;
inline constexpr DType bfloat16 = DType::bfloat16;
inline constexpr DType float16 = DType::float16;
inline constexpr DType int64 = DType::int64;
inline constexpr DType int32 = DType::int32;
inline constexpr DType uint8 = DType::uint8;
inline constexpr DType boolean = DType::boolean;

/// bfloat16: the upper half of a float32; conversion rounds to nearest even, NaN stays NaN.
struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  WEFT_HD BFloat16(float v) {
#ifdef __CUDA_ARCH__
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(v));
#else
    const uint32_t u = std::bit_cast<uint32_t>(v);
    const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    bits = static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : rounded);
#endif
  }
  WEFT_HD operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

/// IEEE binary16; conversion rounds to nearest even, overflow goes to infinity, subnormals are kept.
struct Float16 {
  uint16_t bits = 0;
  Float16() = default;
  WEFT_HD Float16(float v) {
#ifdef __CUDA_ARCH__
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(v));
#else
    const uint32_t u = std::bit_cast<uint32_t>(v);
    const uint32_t sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {  // NaN
      bits = static_cast<uint16_t>(sign | 0x7e00u);
    } else if (magnitude >= 0x47800000u) {  // 2^16 and more
      bits = static_cast<uint16_t>(sign | 0x7c00u);
    } else if (magnitude < 0x38800000u) {  // below 2^-14: let the float adder shift and round
      const float shifted = std::bit_cast<float>(magnitude) + std::bit_cast<float>(0x3f000000u);
      bits = static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
    } else {  // rebias the exponent, round 13 bits away
      const uint32_t odd = (magnitude >> 13) & 1u;
      bits = static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
    }
#endif
  }
  WEFT_HD operator float() const {
#ifdef __CUDA_ARCH__
    float v;
    asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(bits));
    return v;
#else
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
    if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
    // 2^112 moves a half's exponent to where a float has it, subnormals included.
    const float scaled = std::bit_cast<float>(magnitude << 13) * std::bit_cast<float>(0x77800000u);
    return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | sign);
#endif
  }
};

template <class T>
struct Type {
  using type = T;
};

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, double>)
    return float64;
  else if constexpr (std::is_same_v<T, float>)
    return float32;
  else if constexpr (std::is_same_v<T, BFloat16>)
    return bfloat16;
  else if constexpr (std::is_same_v<T, Float16>)
    return float16;
  else if constexpr (std::is_same_v<T, bool>)
    return boolean;
  else if constexpr (std::is_same_v<T, uint8_t>)
    return uint8;
  else if constexpr (std::is_integral_v<T> && sizeof(T) == 8)
    return int64;
  else if constexpr (std::is_integral_v<T> && sizeof(T) == 4)
    return int32;
  else
    static_assert(sizeof(T) == 0, "not an element type");
}

/// What sums, norms and products of T accumulate in: float64 for float64, float32 for the other floats, int64 for
/// integers.
template <class T>
using acc_t =
    std::conditional_t<std::is_same_v<T, double>, double, std::conditional_t<std::is_integral_v<T>, int64_t, float>>;

constexpr size_t size_of(DType d) {
  constexpr size_t sizes[] = {8, 4, 2, 2, 8, 4, 1, 1};
  return sizes[static_cast<int>(d)];
}
constexpr bool is_floating(DType d) { return d <= float16; }
constexpr bool is_half(DType d) { return d == bfloat16 || d == float16; }
constexpr bool is_integer(DType d) { return d == int64 || d == int32 || d == uint8; }

const char* name(DType d);                     ///< "float32", ..., "bool" for boolean
DType dtype_from_name(std::string_view name);  ///< inverse of name; throws on anything else
inline void put(std::string& s, DType d) { s += name(d); }

/// The dtype of a op b, by PyTorch's rules for two tensors: floats win over integers over bool, the wider wins,
/// bfloat16 with float16 gives float32, uint8 with a signed type gives the signed type.
DType promote(DType a, DType b);

/// Calls f(Type<T>{}) with the C++ type of d.
template <class F>
decltype(auto) dispatch_floating(DType d, F&& f) {
  switch (d) {
    case float64:
      return f(Type<double>{});
    case float32:
      return f(Type<float>{});
    case bfloat16:
      return f(Type<BFloat16>{});
    case float16:
      return f(Type<Float16>{});
    default:
      fail("expected a floating dtype, got ", d);
  }
}
template <class F>
decltype(auto) dispatch_all(DType d, F&& f) {
  switch (d) {
    case int64:
      return f(Type<int64_t>{});
    case int32:
      return f(Type<int32_t>{});
    case uint8:
      return f(Type<uint8_t>{});
    case boolean:
      return f(Type<bool>{});
    default:
      return dispatch_floating(d, std::forward<F>(f));
  }
}

/// A number given where a tensor could be: keeps integers exact.
class Scalar {
 public:
  template <class T>
  requires std::is_arithmetic_v<T>
  constexpr Scalar(T v) : integral_(std::is_integral_v<T>) {
    if constexpr (std::is_integral_v<T>)
      i_ = static_cast<int64_t>(v);
    else
      d_ = static_cast<double>(v);
  }
  constexpr bool is_integral() const { return integral_; }
  constexpr double to_double() const { return integral_ ? static_cast<double>(i_) : d_; }
  constexpr int64_t to_int() const { return integral_ ? i_ : static_cast<int64_t>(d_); }
  template <class T>
  constexpr T to() const {
    if constexpr (std::is_same_v<T, bool>)
      return integral_ ? i_ != 0 : d_ != 0;
    else if constexpr (std::is_integral_v<T>)
      return static_cast<T>(to_int());
    else if constexpr (std::is_same_v<T, double>)
      return to_double();
    else
      return T(static_cast<float>(to_double()));
  }

 private:
  bool integral_;
  union {
    int64_t i_;
    double d_;
  };
};
inline void put(std::string& s, Scalar v) { v.is_integral() ? put(s, v.to_int()) : put(s, v.to_double()); }

}  // namespace weft
