// Tensor cores by hand (sm_80 and later): fragments in registers, tiles in shared memory, copies that go on in the
// background. What attention's kernels are made of; nothing here knows about attention.
//
// A product C[16, 8] += A[16, 16] B[16, 8] is one instruction of a warp. With g = lane / 4 and t = lane % 4 a lane
// holds
//   C: (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1)
//   A: (g, 2t..) (g+8, 2t..) (g, 2t+8..) (g+8, 2t+8..), pairs in one register;  B: (2t.., g) (2t+8.., g)
// so two C blocks side by side, rounded, are one A block: what a product leaves is what the next one takes.
#pragma once

#include <weft/cuda/attention_instructions.cuh>

namespace weft::cuda::mma {

// --- tiles

/// [R, D] elements of two bytes in shared memory, D a multiple of 64. The 16-byte chunk c of row r lies at c ^ (r % 8),
/// so that eight rows of one chunk come from different banks.
template <int R, int D>
struct Tile {
  static constexpr int kRows = R, kCols = D, kBytes = R * D * 2;
  uint32_t base;  // aligned to a row

  __device__ uint32_t chunk(int row, int c) const { return base + row * (D * 2) + ((c ^ (row & 7)) << 4); }
  /// Where this lane points load_blocks for the 16×16 block at (0, 0), with blocks in order
  /// (0,0) (8,0) (0,8) (8,8) — or, across, (0,0) (0,8) (8,0) (8,8).
  __device__ uint32_t lane(int l) const { return chunk(l & 15, l >> 4); }
  __device__ uint32_t lane_across(int l) const { return chunk((l & 7) + ((l >> 4) << 3), (l >> 3) & 1); }
  /// The same for the block at (row, col), multiples of 16.
  static __device__ uint32_t at(uint32_t lane, int row, int col) { return (lane ^ (col * 2)) + row * (D * 2); }

  /// Starts copying rows [0, rows) and columns [0, cols) (a multiple of 8) of what from points at, whose rows are
  /// stride apart; zeros elsewhere.
  template <int kBlock, class T>
  __device__ void fetch(const T* from, int64_t stride, int rows, int cols) const {
    constexpr int kStep = kBlock / (D / 8);  // rows that the block copies at a time
    static_assert(R % kStep == 0);
    const int row = static_cast<int>(threadIdx.x) / (D / 8), c = static_cast<int>(threadIdx.x) % (D / 8);
    const uint32_t to = chunk(row, c);
    const T* at = from + row * stride + c * 8;
#pragma unroll
    for (int i = 0; i < R / kStep; ++i)
      copy16(kStep % 8 == 0 ? to + i * (kStep * D * 2) : chunk(row + i * kStep, c), at + i * kStep * stride,
             row + i * kStep < rows && c * 8 < cols);
  }
  /// The same where from(row) points at each row.
  template <int kBlock, class T, class F>
  __device__ void fetch_rows(F&& from, int rows, int cols) const {
    for (int at = static_cast<int>(threadIdx.x); at < R * D / 8; at += kBlock) {
      const int row = at / (D / 8), c = at % (D / 8);
      const bool wanted = row < rows && c * 8 < cols;
      copy16(chunk(row, c), from(wanted ? row : 0) + c * 8, wanted);
    }
  }
};

// --- products of a warp. Rows and columns count in blocks: M of 16 rows, N of 16 columns (two C blocks), K of 16.

template <int M_, int N2_>
struct Accumulator {  // [16 M, 8 N2]
  static constexpr int M = M_, N2 = N2_;
  float c[M][N2][4];
  __device__ void clear() {
#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
      for (int n = 0; n < N2; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) c[m][n][e] = 0;
  }
};

/// Two C blocks side by side, rounded, as an A block.
template <class T>
__device__ inline void as_left(uint32_t (&a)[4], const float (&first)[4], const float (&second)[4]) {
  a[0] = pack<T>(first[0], first[1]), a[1] = pack<T>(first[2], first[3]);
  a[2] = pack<T>(second[0], second[1]), a[3] = pack<T>(second[2], second[3]);
}

/// c += a · Bᵀ or a · B for one block of 16 along K and N columns of 8: b holds two columns' worth for each n.
template <class T, int M, int N2>
__device__ inline void multiply_block(Accumulator<M, N2>& c, const uint32_t (&a)[M][4], int n, const uint32_t (&b)[4]) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
    multiply<T>(c.c[m][n], a[m], b[0], b[1]);
    multiply<T>(c.c[m][n + 1], a[m], b[2], b[3]);
  }
}

/// c += A Bᵀ. A: [16 M, 16 K] of tile TA at lane address a; B: [8 N2, 16 K] of tile TB at lane_across address b.
/// steps: how many of the K blocks hold anything.
template <class T, class TA, class TB, int K, int M, int N2>
__device__ inline void product_nt(Accumulator<M, N2>& c, uint32_t a, uint32_t b, int steps = K) {
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (k >= steps) break;
    uint32_t left[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m) load_blocks(left[m], TA::at(a, m * 16, k * 16));
#pragma unroll
    for (int n = 0; n < N2; n += 2) {
      uint32_t right[4];
      load_blocks(right, TB::at(b, n * 8, k * 16));
      multiply_block<T>(c, left, n, right);
    }
  }
}

/// c += P B. P: [16 M, 8 N1] values in registers; B: [8 N1, 8 N2] of tile TB at lane address b. columns: how many of
/// the N2 hold anything.
template <class T, class TB, int M, int N1, int N2>
__device__ inline void product_registers(Accumulator<M, N2>& c, const Accumulator<M, N1>& p, uint32_t b,
                                         int columns = N2 * 8) {
#pragma unroll
  for (int k = 0; k < N1; k += 2) {
    uint32_t left[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m) as_left<T>(left[m], p.c[m][k], p.c[m][k + 1]);
#pragma unroll
    for (int n = 0; n < N2; n += 2) {
      if (n * 8 >= columns) break;
      uint32_t right[4];
      load_blocks_transposed(right, TB::at(b, k * 8, n * 8));
      multiply_block<T>(c, left, n, right);
    }
  }
}

}  // namespace weft::cuda::mma
