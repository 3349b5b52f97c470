// Rows of N = 8192·M numbers as M parts that each fit a RowTile:
//   X[p + M·κ] = Σ_{j<8192} e^(-2πijκ/8192) · [ e^(-2πij(p + 1/4)/N) · Σ_{a<M} e^(-2πia(p + 1/4)/M) · x[j + 8192·a] ]
// What is in brackets is part p, the sum over j a plain transform of 8192 numbers. Splitting a row into its parts and
// merging them are kernels of their own; between them, parts are convolved as rows of channels·M channels.
#pragma once

#include <weft/cuda/fft_conv_long.cuh>

namespace weft::cuda::fft {

using PartTile = RowTile<8, 32, false>;
static_assert(PartTile::kPoints == kPart);

// Number j of each part, parts[p·kPart + j], from the row's numbers load(position).
template <int M, bool Real, class Load>
__device__ void split(int j, Cx* parts, Load load) {
  Cx c[M];
  unroll<M>([&](auto a) { c[a] = quarter<a, M, Real>(load(j + kPart * a)); });
  dft<M, false>(c);
  unroll<M>([&](auto p) { parts[p * kPart + j] = c[p] * unit_root(j * (4 * p + 1), 4 * M * kPart); });
}
// The inverse times M: store(position, number) for the positions j + 8192·a.
template <int M, class Store>
__device__ void merge(int j, const Cx* parts, Store store) {
  Cx c[M];
  unroll<M>([&](auto p) { c[p] = mul_conj(parts[p * kPart + j], unit_root(j * (4 * p + 1), 4 * M * kPart)); });
  dft<M, true>(c);
  unroll<M>([&](auto a) { store(j + kPart * a, quarter_back<a, M>(c[a])); });
}

// parts: [batch, count, M, kPart] ← x · factor, where there is one
template <int M>
__global__ void split_kernel(Group g, Data x, Data factor, Cx* parts) {
  WEFT_ROWS(row, g.batch * g.count) {
    const int64_t from = g.source(row);
    WEFT_GRID_LOOP(j, kPart) {
      split<M, true>(static_cast<int>(j), parts + row * g.N, [&](int at) {
        if (at >= g.n) return Cx{0.0f, 0.0f};
        const float v = x.load<float>(from + at);
        return Cx{factor.data ? v * factor.load<float>(from + at) : v, 0.0f};
      });
    }
  }
}
template <int M>
__global__ void merge_kernel(Group g, const Cx* parts, Data factor, Data y) {
  WEFT_ROWS(row, g.batch * g.count) {
    const int64_t to = g.source(row);
    WEFT_GRID_LOOP(j, kPart) {
      merge<M>(static_cast<int>(j), parts + row * g.N, [&](int at, Cx v) {
        if (at < g.n) y.store(to + at, factor.data ? v.re * factor.load<float>(to + at) : v.re);
      });
    }
  }
}

// The taps of both sides as one complex row, over N (see spectra_kernel). parts: [count, M, kPart]
template <int M>
__global__ void split_taps_kernel(Group g, ConvArgs a, Cx* parts) {
  const float scale = 1.0f / static_cast<float>(g.N);
  WEFT_ROWS(i, g.count) {
    const int64_t h = g.first + i;
    WEFT_GRID_LOOP(j, kPart) {
      split<M, false>(static_cast<int>(j), parts + i * g.N, [&](int at) {
        const int64_t back = g.N - 1 - at;
        Cx v{at < g.n && at < a.taps ? a.k.load<float>(h * a.taps + at) : 0.0f, 0.0f};
        if (at == 0 && a.d.data) v.re += a.d.load<float>(h);
        if (a.k_rev.data && back < g.n - 1 && back < a.taps_rev) v.im = a.k_rev.load<float>(h * a.taps_rev + back);
        return Cx{v.re * scale, v.im * scale};
      });
    }
  }
}
template <int M>
__global__ void merge_taps_kernel(Group g, ConvArgs a, const Cx* parts) {
  const float scale = 1.0f / static_cast<float>(g.N);
  WEFT_ROWS(i, g.count) {
    const int64_t h = g.first + i;
    WEFT_GRID_LOOP(j, kPart) {
      merge<M>(static_cast<int>(j), parts + i * g.N, [&](int at, Cx v) {
        const int64_t back = g.N - 1 - at;
        if (at == 0 && a.dd.data) a.dd.store(h, v.re * scale);
        if (a.dk.data && at < a.taps) a.dk.store(h * a.taps + at, at < g.n ? v.re * scale : 0.0f);
        if (a.dk_rev.data && back < a.taps_rev)
          a.dk_rev.store(h * a.taps_rev + back, back < g.n - 1 ? v.im * scale : 0.0f);
      });
      for (int64_t at = g.N + j; a.dk.data && at < a.taps; at += kPart) a.dk.store(h * a.taps + at, 0.0f);
      for (int64_t at = g.N + j; a.dk_rev.data && at < a.taps_rev; at += kPart)
        a.dk_rev.store(h * a.taps_rev + at, 0.0f);
    }
  }
}

// A block a part: its spectrum in the tile's order, and back from the sum of its chunks' spectra.
__global__ void __launch_bounds__(PartTile::kThreads, 2) part_spectra_kernel(const Cx* parts, Cx* spectra) {
  extern __shared__ __align__(16) unsigned char shared[];
  const PartTile tile(reinterpret_cast<Cx*>(shared));
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kPart;
  Cx x[32];
  unroll<32>([&](auto m) { x[m] = parts[at + tile.position(m)]; });
  tile.forward<false>(x);
  store_spectrum(tile, spectra + at, x);
}
__global__ void __launch_bounds__(PartTile::kThreads, 2) part_sums_kernel(Cx* sums, int chunks, Cx* parts) {
  extern __shared__ __align__(16) unsigned char shared[];
  const PartTile tile(reinterpret_cast<Cx*>(shared));
  const int64_t part = blockIdx.x;
  Cx x[32];
  add_spectra(tile, sums + part * chunks * kPart, chunks, x);
  tile.inverse(x);
  unroll<32>([&](auto m) { parts[part * kPart + tile.position(m)] = x[m]; });
}

}  // namespace weft::cuda::fft
