// Fourier transforms of 2, 4, 8 and 32 numbers that one thread holds in registers. Every index and every rotation is a
// constant of the compiled code, so that an array never leaves the registers and a rotation by an eighth of a turn
// costs what it is: a swap, a sign, or two products.
#pragma once

#include <utility>

namespace weft::cuda::fft {

struct alignas(8) Cx {
  float re, im;
};

__device__ inline Cx operator+(Cx a, Cx b) { return {a.re + b.re, a.im + b.im}; }
__device__ inline Cx operator-(Cx a, Cx b) { return {a.re - b.re, a.im - b.im}; }
__device__ inline Cx operator*(Cx a, Cx b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
/// a · conj(b)
__device__ inline Cx mul_conj(Cx a, Cx b) { return {a.re * b.re + a.im * b.im, a.im * b.re - a.re * b.im}; }
/// a · w forwards, a · conj(w) backwards
template <bool Inverse>
__device__ inline Cx turn(Cx a, Cx w) {
  return Inverse ? mul_conj(a, w) : a * w;
}

/// cos(2πk/n) and sin(2πk/n) while compiling, by their series.
constexpr double cos_turn(int k, int n) {
  const double x = 6.283185307179586476925 * (k % n) / n;
  double term = 1, sum = 1;
  for (int i = 1; i < 24; ++i) sum += term *= -x * x / ((2 * i - 1) * (2 * i));
  return sum;
}
constexpr double sin_turn(int k, int n) {
  const double x = 6.283185307179586476925 * (k % n) / n;
  double term = x, sum = x;
  for (int i = 1; i < 24; ++i) sum += term *= -x * x / ((2 * i) * (2 * i + 1));
  return sum;
}

/// f(std::integral_constant<int, i>) for i = 0 … N - 1.
template <int N, class F>
__device__ inline void unroll(F f) {
  [&]<int... I>(std::integer_sequence<int, I...>) { (f(std::integral_constant<int, I>{}), ...); }
  (std::make_integer_sequence<int, N>{});
}

/// a · e^(-2πiK/N) forwards, a · e^(2πiK/N) backwards.
template <int K0, int N, bool Inverse>
__device__ inline Cx rotate(Cx a) {
  constexpr int K = Inverse ? (N - K0 % N) % N : K0 % N;
  if constexpr (K == 0) {
    return a;
  } else if constexpr (4 * K == N) {
    return {a.im, -a.re};
  } else if constexpr (2 * K == N) {
    return {-a.re, -a.im};
  } else if constexpr (4 * K == 3 * N) {
    return {-a.im, a.re};
  } else if constexpr (8 * K % N == 0) {  // (±1 ± i)/√2
    constexpr float half = 0.70710678118654752f, x = cos_turn(K, N) > 0 ? half : -half;
    if constexpr ((cos_turn(K, N) > 0) == (sin_turn(K, N) > 0))
      return {x * (a.re + a.im), x * (a.im - a.re)};
    else
      return {x * (a.re - a.im), x * (a.im + a.re)};
  } else {
    constexpr float c = static_cast<float>(cos_turn(K, N)), s = static_cast<float>(sin_turn(K, N));
    return {a.re * c + a.im * s, a.im * c - a.re * s};
  }
}

/// x · e^(-2πi·M/4R): the quarter in the frequencies k + 1/4, for number M of R. Real: x.im is taken to be 0.
template <int M, int R, bool Real>
__device__ inline Cx quarter(Cx x) {
  if constexpr (Real) {
    constexpr float c = static_cast<float>(cos_turn(M, 4 * R)), s = static_cast<float>(-sin_turn(M, 4 * R));
    return {x.re * c, x.re * s};
  } else {
    return rotate<M, 4 * R, false>(x);
  }
}
template <int M, int R>
__device__ inline Cx quarter_back(Cx x) {
  return rotate<M, 4 * R, true>(x);
}

/// e^(-2πik/n) to the last bit or so, for k below 2^24 and n a power of two: k/n is exact then.
__device__ inline Cx unit_root(int k, int n) {
  Cx w;
  sincospif(-2.0f * static_cast<float>(k) / static_cast<float>(n), &w.im, &w.re);
  return w;
}

/// x[k] ← Σ_j x[j]·e^(∓2πijk/R), in natural order.
template <int R, bool Inverse>
__device__ inline void dft(Cx (&x)[R]) {
  if constexpr (R == 2) {
    const Cx a = x[0], b = x[1];
    x[0] = a + b, x[1] = a - b;
  } else if constexpr (R == 4) {
    const Cx a = x[0] + x[2], b = x[0] - x[2], c = x[1] + x[3], d = rotate<1, 4, Inverse>(x[1] - x[3]);
    x[0] = a + c, x[1] = b + d, x[2] = a - c, x[3] = b - d;
  } else if constexpr (R > 1) {  // R = A·B: B transforms of A numbers, rotations, A transforms of B numbers
    constexpr int A = R == 8 ? 2 : 4, B = R / A;
    unroll<B>([&](auto b) {
      Cx c[A];
      unroll<A>([&](auto a) { c[a] = x[b + B * a]; });
      dft<A, Inverse>(c);
      unroll<A>([&](auto a) { x[b + B * a] = rotate<a * b, R, Inverse>(c[a]); });
    });
    Cx y[R];
    unroll<A>([&](auto a) {
      Cx r[B];
      unroll<B>([&](auto b) { r[b] = x[B * a + b]; });
      dft<B, Inverse>(r);
      unroll<B>([&](auto b) { y[a + A * b] = r[b]; });
    });
    unroll<R>([&](auto i) { x[i] = y[i]; });
  }
}

}  // namespace weft::cuda::fft
