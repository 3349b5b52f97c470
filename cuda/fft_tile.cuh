// One transform that a block keeps in registers and shared memory, for convolutions of real rows without zero padding.
//
// A row of N real numbers x is taken as the polynomial x(z) = Σ_j x[j]·z^j and evaluated at the N roots of z^N = -i,
//   X[k] = Σ_j x[j]·e^(-2πij(k + 1/4)/N),   z_k = e^(-2πi(k + 1/4)/N).
// Products of such values are products of polynomials modulo z^N + i: what reaches beyond the row, z^(N + t) = -i·z^t
// and z^(t - N) = i·z^t, lands in the imaginary part, and the real part is the linear convolution. docs/cuda_fft.md.
//
// N = 32·L·W: a row is held by W·L threads, 32 numbers each. The passes: W numbers, 32 numbers, L numbers; between the
// first two an exchange through shared memory with the whole block, between the last two one among L lanes of a warp.
// Each pass is followed by the rotation e^(-2πi·(position in the part)·(frequency)/(size of the part)). The inverse
// mirrors all of it. The order of the spectrum is whatever comes out: part p, lane q holds in register i·L + r the
// frequency p + W·(q + L·i + 32·r).
//   N = 2048, 4096, 8192: one row a block of W = 2, 4, 8 warps. N = 1024: a row a warp, no wait for anyone outside it.
//   N = 256, 512: L = 8, 16 lanes a row, and a warp takes kRows = 4, 2 rows side by side.
// Not Whole: the plain transform of complex numbers, of frequencies k: a part of a longer row (fft_conv_parts.cu).
#pragma once

#include <weft/cuda/common.cuh>
#include <weft/cuda/fft_radix.cuh>

namespace weft::cuda::fft {

template <int W, int L = 32, bool Whole = true>
struct RowTile {
  static_assert(L == 32 || W == 1);
  static_assert(Whole || W > 1);
  static constexpr bool kWhole = Whole;
  static constexpr int kPoints = 32 * L * W, kRowThreads = L * W, kRows = 32 / L, kThreads = kRowThreads * kRows;
  // A part is a matrix [32, L] whose rows are padded by one number: its columns then spread over all banks. With L = 8
  // the parts of neighbouring rows are kept apart by 8 more.
  static constexpr int kPitch = L + 1, kPartPitch = 32 * kPitch + (L == 8 ? 8 : 0);
  static constexpr int kBlockRoots = (W > 1 ? W : 0) * kRowThreads, kLaneRoots = 12 * L;
  static constexpr int kBytes = (W * kRows * kPartPitch + kBlockRoots + kLaneRoots) * static_cast<int>(sizeof(Cx));

  int row, part, lane, t;  // which of the block's rows, which part of it, where in the part, where in the row
  Cx* exchange;            // [W, kPartPitch]: of this row
  Cx* block_roots;         // [W, kRowThreads]: e^(-2πi·t·(p + 1/4)/N)
  Cx* lane_roots;  // [12, L]: e^(-2πi·lane·e/32L) for e = 0 … 3 (+ 1/4 if this is the first pass), then 0, 4 … 28

  /// memory: kBytes of shared memory. All threads of the block must come.
  __device__ explicit RowTile(Cx* memory) {
    const int thread = static_cast<int>(threadIdx.x);
    row = kRows > 1 ? thread / kRowThreads : 0, t = kRows > 1 ? thread % kRowThreads : thread;
    part = W > 1 ? t / L : 0, lane = W > 1 ? t % L : t;
    exchange = memory + row * W * kPartPitch;
    block_roots = memory + kRows * W * kPartPitch;
    lane_roots = block_roots + kBlockRoots;
    if constexpr (W > 1) {
      for (int p = 0; p < W; ++p) block_roots[p * kRowThreads + t] = unit_root(t * (4 * p + kWhole), 4 * kPoints);
    }
    for (int i = thread; i < kLaneRoots; i += kThreads) {
      const int e = i / L;
      lane_roots[i] = unit_root(i % L * (e < 4 ? 4 * e + (W == 1) : 16 * (e - 4)), 128 * L);
    }
    wait();
  }

  /// Everyone has come this far.
  __device__ static void wait() {
    if constexpr (W > 1)
      __syncthreads();
    else
      __syncwarp();
  }
  /// Where in the row register m lies.
  __device__ int position(int m) const { return t + kRowThreads * m; }

  /// x: [position(m)] -> spectrum. Real: imaginary parts are taken to be 0. May follow inverse() at once, since a
  /// thread writes first where it read last; call wait() after another forward().
  template <bool Real>
  __device__ void forward(Cx (&x)[32]) const {
    if constexpr (W > 1) {
      first_pass<Real>(x);
      __syncthreads();
      unroll<32>([&](auto m) { x[m] = exchange[part * kPartPitch + lane + L * m]; });
    } else {
      unroll<32>([&](auto m) { x[m] = quarter<m, 32, Real>(x[m]); });
    }
    dft<32, false>(x);
    turn_lanes<false>(x);
    __syncwarp();
    unroll<32>([&](auto k) { exchange[part * kPartPitch + kPitch * k + lane] = x[k]; });
    __syncwarp();
    unroll<32>([&](auto r) { x[r] = exchange[part * kPartPitch + kPitch * (lane + r / L * L) + r % L]; });
    dft_lanes<false>(x);
  }

  /// Spectrum -> N · x: [position(m)].
  __device__ void inverse(Cx (&x)[32]) const {
    dft_lanes<true>(x);
    __syncwarp();
    unroll<32>([&](auto r) { exchange[part * kPartPitch + kPitch * (lane + r / L * L) + r % L] = x[r]; });
    __syncwarp();
    unroll<32>([&](auto k) { x[k] = exchange[part * kPartPitch + kPitch * k + lane]; });
    turn_lanes<true>(x);
    dft<32, true>(x);
    if constexpr (W > 1) {
      __syncwarp();
      unroll<32>([&](auto m) { exchange[part * kPartPitch + lane + L * m] = x[m]; });
      __syncthreads();
      last_pass(x);
    } else {
      unroll<32>([&](auto m) { x[m] = quarter_back<m, 32>(x[m]); });
    }
  }

 private:
  // 32/W transforms of W numbers, 32·L apart: part p of the row goes to warp p.
  template <bool Real>
  __device__ void first_pass(const Cx (&x)[32]) const {
    constexpr int kSets = 32 / W;
    unroll<kSets>([&](auto b) {
      Cx c[W];
      unroll<W>([&](auto a) { c[a] = Whole ? quarter<a, W, Real>(x[b + kSets * a]) : x[b + kSets * a]; });
      dft<W, false>(c);
      unroll<W>([&](auto p) {  // e^(-2πi·(t + kRowThreads·b)·(p + 1/4)/N)
        exchange[p * kPartPitch + kRowThreads * b + t] =
            rotate<b*(4 * p + Whole), 128, false>(c[p] * block_roots[p * kRowThreads + t]);
      });
    });
  }
  __device__ void last_pass(Cx (&x)[32]) const {
    constexpr int kSets = 32 / W;
    unroll<kSets>([&](auto b) {
      Cx c[W];
      unroll<W>([&](auto p) {
        const Cx v = exchange[p * kPartPitch + kRowThreads * b + t];
        c[p] = mul_conj(rotate<b*(4 * p + Whole), 128, true>(v), block_roots[p * kRowThreads + t]);
      });
      dft<W, true>(c);
      unroll<W>([&](auto a) { x[b + kSets * a] = Whole ? quarter_back<a, W>(c[a]) : c[a]; });
    });
  }

  // 32/L transforms of L numbers.
  template <bool Inverse>
  __device__ static void dft_lanes(Cx (&x)[32]) {
    unroll<32 / L>([&](auto i) {
      Cx c[L];
      unroll<L>([&](auto r) { c[r] = x[L * i + r]; });
      dft<L, Inverse>(c);
      unroll<L>([&](auto r) { x[L * i + r] = c[r]; });
    });
  }

  // x[k] · e^(∓2πi·lane·k/32L) (k + 1/4 in the first pass), each factor a product of two that were computed exactly
  template <bool Inverse>
  __device__ void turn_lanes(Cx (&x)[32]) const {
    Cx low[4];
    unroll<4>([&](auto i) { low[i] = lane_roots[L * i + lane]; });
    unroll<8>([&](auto j) {
      const Cx high = lane_roots[L * (4 + j) + lane];
      unroll<4>([&](auto i) {
        if constexpr (j == 0 && i == 0 && W > 1) return;  // 1
        const Cx w = j == 0 ? low[i] : i == 0 && W > 1 ? high : low[i] * high;
        x[4 * j + i] = turn<Inverse>(x[4 * j + i], w);
      });
    });
  }
};

}  // namespace weft::cuda::fft
