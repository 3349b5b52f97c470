// The long convolution's kernels for rows that fit a RowTile: a block takes a channel and a chunk of the batch. It
// reads rows, transforms, multiplies by the spectrum of its channel's taps, transforms back and writes.
#pragma once

#include <weft/cuda/fft_tile.cuh>

namespace weft::cuda::fft {

/// Tensors that are undefined have null data. u, dy, gate, y, du, dgate: [batch, channels, n]; k: [channels, taps];
/// k_rev: [channels, taps_rev]; d: [channels]; spectra: [channels, N]; sums: [channels, chunks, kRows, N].
struct ConvArgs {
  int batch = 0, channels = 0, n = 0, chunk = 1, chunks = 1;  // chunk: rows of one channel that a block takes
  int64_t taps = 0, taps_rev = 0;
  Data u, k, k_rev, d, gate, dy, y, du, dk, dk_rev, dd, dgate;
  Cx *spectra = nullptr, *sums = nullptr;
};

// --- rows and spectra in memory ----------------------------------------------------------------------------------

/// f(pointer to the element at offset), for a dtype that is computed in float.
template <class F>
__device__ void with_elements(Data x, int64_t offset, F f) {
  if (x.dtype == DType::float32)
    f(static_cast<float*>(x.data) + offset);
  else if (x.dtype == DType::bfloat16)
    f(static_cast<BFloat16*>(x.data) + offset);
  else
    f(static_cast<Float16*>(x.data) + offset);
}

// x[m].re ← row[position(m)], or 0 from n on; x[m] itself from a part of a longer row
template <class Tile>
__device__ void load_row(const Tile& tile, Data row, int64_t offset, int64_t n, Cx (&x)[32]) {
  if constexpr (!Tile::kWhole) {
    const Cx* p = static_cast<const Cx*>(row.data) + offset;
    unroll<32>([&](auto m) { x[m] = p[tile.position(m)]; });
    return;
  }
  with_elements(row, offset, [&](const auto* p) {
    unroll<32>([&](auto m) {
      const int at = tile.position(m);
      x[m] = {at < n ? static_cast<float>(p[at]) : 0.0f, 0.0f};
    });
  });
}
template <class Tile>
__device__ void multiply_row(const Tile& tile, Data row, int64_t offset, int n, Cx (&x)[32]) {
  with_elements(row, offset, [&](const auto* p) {
    unroll<32>([&](auto m) {
      const int at = tile.position(m);
      if (at < n) x[m].re *= static_cast<float>(p[at]);
    });
  });
}
template <class Tile>
__device__ void store_row(const Tile& tile, Data row, int64_t offset, int n, const Cx (&x)[32]) {
  if constexpr (!Tile::kWhole) {
    Cx* p = static_cast<Cx*>(row.data) + offset;
    unroll<32>([&](auto m) { p[tile.position(m)] = x[m]; });
    return;
  }
  with_elements(row, offset, [&]<class T>(T* p) {
    unroll<32>([&](auto m) {
      const int at = tile.position(m);
      if (at < n) p[at] = static_cast<T>(x[m].re);
    });
  });
}

// A spectrum in memory: registers 2r and 2r + 1 side by side, then the threads: 16 bytes a thread at a time.
struct alignas(16) CxPair {
  Cx a, b;
};
template <class Tile>
__device__ CxPair& pair(const Tile& tile, Cx* spectrum, int r) {
  return (reinterpret_cast<CxPair*>(spectrum) + tile.t)[r * Tile::kRowThreads];
}
template <class Tile>
__device__ void store_spectrum(const Tile& tile, Cx* spectrum, const Cx (&x)[32]) {
  unroll<16>([&](auto r) { pair(tile, spectrum, r) = {x[2 * r], x[2 * r + 1]}; });
}
// x ← x · spectrum, or its conjugate
template <class Tile>
__device__ void multiply_spectrum(const Tile& tile, Cx* spectrum, bool conjugate, Cx (&x)[32]) {
  const float sign = conjugate ? -1.0f : 1.0f;
  unroll<16>([&](auto r) {
    const CxPair k = pair(tile, spectrum, r);
    x[2 * r] = x[2 * r] * Cx{k.a.re, sign * k.a.im};
    x[2 * r + 1] = x[2 * r + 1] * Cx{k.b.re, sign * k.b.im};
  });
}

// x ← Σ_c spectra[c], in order
template <class Tile>
__device__ void add_spectra(const Tile& tile, Cx* spectra, int count, Cx (&x)[32]) {
  unroll<32>([&](auto r) { x[r] = {0.0f, 0.0f}; });
  for (int c = 0; c < count; ++c) {
    unroll<16>([&](auto r) {
      const CxPair s = pair(tile, spectra + int64_t{c} * Tile::kPoints, r);
      x[2 * r] = x[2 * r] + s.a, x[2 * r + 1] = x[2 * r + 1] + s.b;
    });
  }
}

// --- kernels -----------------------------------------------------------------------------------------------------

/// Spectra of the taps, over N. A tap at lag j is z^j; one at lag -1 - j is z^(-1 - j) = i·z^(N - 1 - j), so that both
/// sides are one complex row. The skip term is one more tap at lag 0.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 512 / Tile::kThreads) spectra_kernel(ConvArgs a) {
  extern __shared__ __align__(16) unsigned char shared[];
  const Tile tile(reinterpret_cast<Cx*>(shared));
  constexpr int N = Tile::kPoints;
  const int64_t h = static_cast<int64_t>(blockIdx.x) * Tile::kRows + tile.row;
  const bool mine = h < a.channels;
  Cx x[32];
  load_row(tile, a.k, h * a.taps, mine ? min(a.taps, int64_t{a.n}) : 0, x);
  if (mine && a.d.data && tile.t == 0) x[0].re += a.d.template load<float>(h);
  if (mine && a.k_rev.data) {
    const int64_t taps = min(a.taps_rev, int64_t{a.n} - 1);
    with_elements(a.k_rev, h * a.taps_rev, [&](const auto* p) {
      unroll<32>([&](auto m) {
        const int j = N - 1 - tile.position(m);
        if (j < taps) x[m].im = static_cast<float>(p[j]);
      });
    });
  }
  unroll<32>([&](auto m) { x[m] = {x[m].re * (1.0f / N), x[m].im * (1.0f / N)}; });
  tile.template forward<false>(x);
  if (mine) store_spectrum(tile, a.spectra + h * N, x);
}

/// y = gate · (u by taps)
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 512 / Tile::kThreads) conv_kernel(ConvArgs a) {
  extern __shared__ __align__(16) unsigned char shared[];
  const Tile tile(reinterpret_cast<Cx*>(shared));
  const int h = static_cast<int>(blockIdx.x) / a.chunks, first = static_cast<int>(blockIdx.x) % a.chunks * a.chunk;
  const int last = min(first + a.chunk, a.batch);
  for (int b0 = first; b0 < last; b0 += Tile::kRows) {
    const int b = b0 + tile.row, n = b < last ? a.n : 0;
    const int64_t row = (int64_t{b} * a.channels + h) * a.n;
    Cx x[32];
    load_row(tile, a.u, row, n, x);
    tile.template forward<Tile::kWhole>(x);
    multiply_spectrum(tile, a.spectra + int64_t{h} * Tile::kPoints, false, x);
    tile.inverse(x);
    if (a.gate.data) multiply_row(tile, a.gate, row, n, x);
    store_row(tile, a.y, row, n, x);
  }
}

/// With g = dy · gate: du = g by the taps turned round, dgate = dy · (u by taps), and into sums the chunk's
/// Σ_b g·conj(u) as a spectrum. Two turns a row, of one code: u, then g.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kThreads < 256 ? 384 / Tile::kThreads : 1)
    conv_backward_kernel(ConvArgs a) {
  extern __shared__ __align__(16) unsigned char shared[];
  const Tile tile(reinterpret_cast<Cx*>(shared));
  constexpr int N = Tile::kPoints;
  // u's spectra: a thread reads what it wrote
  Cx* const kept = reinterpret_cast<Cx*>(shared + Tile::kBytes) + tile.row * N;
  const int h = static_cast<int>(blockIdx.x) / a.chunks, first = static_cast<int>(blockIdx.x) % a.chunks * a.chunk;
  const int last = min(first + a.chunk, a.batch);
  const int begin = a.sums || a.dgate.data ? 0 : 1, end = a.sums || a.du.data ? 2 : 1;
  Cx sum[32];
  unroll<32>([&](auto r) { sum[r] = {0.0f, 0.0f}; });
  for (int b0 = first; b0 < last; b0 += Tile::kRows) {
    const int b = b0 + tile.row, n = b < last ? a.n : 0;
    const int64_t row = (int64_t{b} * a.channels + h) * a.n;
#pragma unroll 1
    for (int turn = begin; turn < end; ++turn) {
      Cx x[32];
      load_row(tile, turn ? a.dy : a.u, row, n, x);
      if (turn && a.gate.data) multiply_row(tile, a.gate, row, n, x);
      tile.template forward<Tile::kWhole>(x);
      if (a.sums && turn == 0) store_spectrum(tile, kept, x);
      if (a.sums && turn == 1) {
        unroll<16>([&](auto r) {
          const CxPair u = pair(tile, kept, r);
          sum[2 * r] = sum[2 * r] + mul_conj(x[2 * r], u.a);
          sum[2 * r + 1] = sum[2 * r + 1] + mul_conj(x[2 * r + 1], u.b);
        });
      }
      const Data out = turn ? a.du : a.dgate;
      if (!out.data) {
        tile.wait();
        continue;
      }
      multiply_spectrum(tile, a.spectra + int64_t{h} * N, turn == 1, x);
      tile.inverse(x);
      if (Tile::kWhole && turn == 0) multiply_row(tile, a.dy, row, n, x);
      store_row(tile, out, row, n, x);
    }
  }
  if (a.sums) store_spectrum(tile, a.sums + (static_cast<int64_t>(blockIdx.x) * Tile::kRows + tile.row) * N, sum);
}

/// dk, dk_rev and dd from the chunks' sums, added in order: the mirror of spectra_kernel.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 512 / Tile::kThreads) taps_backward_kernel(ConvArgs a) {
  extern __shared__ __align__(16) unsigned char shared[];
  const Tile tile(reinterpret_cast<Cx*>(shared));
  constexpr int N = Tile::kPoints;
  const int64_t h = static_cast<int64_t>(blockIdx.x) * Tile::kRows + tile.row;
  const bool mine = h < a.channels;
  Cx x[32];
  const int parts = a.chunks * Tile::kRows;
  add_spectra(tile, a.sums + h * parts * N, mine ? parts : 0, x);
  tile.inverse(x);
  if (!mine) return;
  unroll<32>([&](auto m) { x[m] = {x[m].re * (1.0f / N), x[m].im * (1.0f / N)}; });
  if (a.dd.data && tile.t == 0) a.dd.store(h, x[0].re);
  if (a.dk.data) {
    with_elements(a.dk, h * a.taps, [&]<class T>(T* p) {
      unroll<32>([&](auto m) {
        const int j = tile.position(m);
        if (j < a.taps) p[j] = static_cast<T>(j < a.n ? x[m].re : 0.0f);
      });
      for (int64_t j = N + tile.t; j < a.taps; j += Tile::kRowThreads) p[j] = static_cast<T>(0.0f);
    });
  }
  if (a.dk_rev.data) {
    with_elements(a.dk_rev, h * a.taps_rev, [&]<class T>(T* p) {
      unroll<32>([&](auto m) {
        const int j = N - 1 - tile.position(m);
        if (j < a.taps_rev) p[j] = static_cast<T>(j < a.n - 1 ? x[m].im : 0.0f);
      });
      for (int64_t j = N + tile.t; j < a.taps_rev; j += Tile::kRowThreads) p[j] = static_cast<T>(0.0f);
    });
  }
}

}  // namespace weft::cuda::fft
