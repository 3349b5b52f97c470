// What a Hopper GPU (compute capability 9.0) adds to CUDA C++, typed: barriers that count bytes, the copy engine (TMA),
// products of a warpgroup (wgmma) and registers moved between warpgroups. Source: the PTX ISA, version 8.0 and later.
//
// A tile in shared memory is [rows, cols] of 16-bit numbers in panels of 64 columns; a panel is rows × 128 bytes:
//
//   panel p, row r:   | chunk 0 ^ (r%8) | chunk 1 ^ (r%8) | … | chunk 7 ^ (r%8) |     a chunk: 8 numbers, 16 bytes
//
// The copy engine writes this 128-byte swizzle and wgmma reads it, so that 8 rows of one column of chunks lie in
// different banks. Panels start at multiples of 1024 bytes: the pattern repeats every 8 rows.
#pragma once

#include <weft/cuda/common.cuh>

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace weft::cuda::hopper {

inline constexpr int kWarpgroup = 128;  // threads that issue one wgmma together

// --- Host: tensor maps ---

/// Describes x: [b, h, n, d] (16-bit, contiguous along d) to the copy engine, which fetches boxes of rows × 64 numbers
/// from it. Rows beyond n arrive as zeros. False where the engine cannot address x.
bool tensor_map(const Tensor& x, int rows, CUtensorMap& map);

#ifdef __CUDACC__

// --- Barriers ---

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/// Completes a phase when all arrivals and all expected bytes are in; phases alternate between parity 0 and 1. A wait
/// for parity 1 on a fresh barrier returns at once.
struct Barrier {
  uint64_t state;

  __device__ void init(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(this)), "r"(arrivals));
  }
  __device__ __forceinline__ void arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(this)) : "memory");
  }
  /// Arrives, and lets the phase also wait for bytes from the copy engine.
  __device__ __forceinline__ void expect(uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(this)), "r"(bytes)
                 : "memory");
  }
  __device__ __forceinline__ void wait(uint32_t parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra ready;\n"
        "bra again;\n"
        "ready:\n"
        "}\n" ::"r"(shared_address(this)),
        "r"(parity)
        : "memory");
  }
};

/// Makes initialised barriers visible to the copy engine; __syncthreads() follows.
__device__ __forceinline__ void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Orders this thread's ordinary writes to shared memory before reads by wgmma and the copy engine.
__device__ __forceinline__ void fence_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Named barriers 1-15 of the block: sync waits until `threads` threads have come, arrive counts without waiting.
__device__ __forceinline__ void named_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// Where a ring of stages is: the parity of a stage's barriers flips with every round.
template <int Stages>
struct Ring {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void next() {
    if (++stage == Stages) stage = 0, parity ^= 1;
  }
};

// --- Registers: a warpgroup gives some back, others take them ---

template <int N>
__device__ __forceinline__ void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
__device__ __forceinline__ void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

/// Whether a block of Groups warpgroups, whose threads start with an even share, can have one of them lowered to
/// `lowered` and the others raised to `raised`: a raise waits for ever for registers that nobody gives back.
template <int Groups>
constexpr bool fits_registers(int lowered, int raised) {
  return lowered + (Groups - 1) * raised <= 65536 / (Groups * kWarpgroup) / 8 * 8 * Groups;
}

// --- The copy engine ---

/// Fetches the box at (column, row, h, b) of the mapped tensor into `to`; its bytes count on the barrier.
__device__ __forceinline__ void load_box(void* to, const CUtensorMap& map, Barrier& full, int column, int row, int h,
                                         int b) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
      "[%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(&full)), "r"(column), "r"(row), "r"(h), "r"(b)
      : "memory");
}

/// Fetches bytes that lie in a row (a multiple of 16, both ends aligned to 16); they count on the barrier.
__device__ __forceinline__ void load_line(void* to, const void* from, int bytes, Barrier& full) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(&full))
               : "memory");
}

// --- Tiles and their descriptors ---

template <class T, int Rows, int Cols>
struct Tile {
  static_assert(Rows % 8 == 0 && Cols % 64 == 0);
  static constexpr int kPanel = Rows * 64, kBytes = Rows * Cols * 2;
  alignas(1024) T data[Rows * Cols];

  /// Fetches the rows from `row` on; the caller has announced kBytes on the barrier.
  __device__ __forceinline__ void load(const CUtensorMap& map, Barrier& full, int row, int h, int b) {
#pragma unroll
    for (int p = 0; p < Cols / 64; ++p) load_box(data + p * kPanel, map, full, p * 64, row, h, b);
  }
  /// Where the chunk of 8 numbers at (row, column) lies.
  __device__ __forceinline__ T* chunk(int row, int column) {
    return data + (column / 64) * kPanel + row * 64 + ((column % 64 / 8) ^ (row % 8)) * 8;
  }
};

/// A wgmma operand in shared memory. Bits: address/16 [0,14), leading offset/16 [16,30), stride offset/16 [32,46),
/// 128-byte swizzle = 1 in [62,64).
__device__ __forceinline__ uint64_t descriptor(const void* at, int leading, int stride) {
  const uint64_t fixed = uint64_t{1} << 62 | uint64_t(stride >> 4) << 32 | uint64_t(leading >> 4) << 16;
  return fixed | ((shared_address(at) & 0x3FFFF) >> 4);
}

/// Sums run along the columns (a row of the operand is a row of the tile): 16 columns from `column`, rows from `row`
/// (a multiple of 8). The next 8 rows are 1024 bytes on; the leading offset has no meaning here.
template <class T, int Rows, int Cols>
__device__ __forceinline__ uint64_t along_columns(const Tile<T, Rows, Cols>& t, int row, int column) {
  return descriptor(t.data + (column / 64) * t.kPanel + row * 64 + column % 64, 16, 1024);
}
/// Sums run along the rows (a row of the operand is a column of the tile): 16 rows from `row`, columns from `column` (a
/// multiple of 64). The next 8 rows are 1024 bytes on, the next 64 columns a panel.
template <class T, int Rows, int Cols>
__device__ __forceinline__ uint64_t along_rows(const Tile<T, Rows, Cols>& t, int row, int column) {
  return descriptor(t.data + (column / 64) * t.kPanel + row * 64, t.kPanel * 2, 1024);
}

// --- Products of a warpgroup: d[64, N] (+)= a[64, 16] b[16, N], in float32 ---
//
// Thread t holds of d, for g in [0, N/8): columns 8g + 2(t%4) + {0, 1} of rows r = 16(t/32) + t%32/4 in d[4g + {0, 1}]
// and of rows r + 8 in d[4g + {2, 3}]. Of an operand a in registers it holds the same places, two numbers a register:
// so 16 columns of d, rounded and packed, are a (pack_operand).

__device__ __forceinline__ void mma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void mma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/// The compiler may not move uses of r across.
template <int N>
__device__ __forceinline__ void pin(float (&r)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(r[i])::"memory");
}
template <int N>
__device__ __forceinline__ void pin(uint32_t (&r)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+r"(r[i])::"memory");
}
/// Waits until at most Pending of this warp's committed groups are under way.
template <int Pending>
__device__ __forceinline__ void mma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

template <class T, int N>
struct Mma;

// clang-format off
#define WEFT_0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, "
#define WEFT_10(t) "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9, "
#define WEFT_F8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define WEFT_F32(i) WEFT_F8(i), WEFT_F8(i + 8), WEFT_F8(i + 16), WEFT_F8(i + 24)
// LIST names the N/2 registers of d, the last arguments bind them; I0 … I6 number the operands behind them.
#define WEFT_MMA(T, TYPE, N, LIST, I0, I1, I2, I3, I4, I5, I6, ...)                                                      \
  template <> struct Mma<T, N> {                                                                                        \
    template <int ARows, int BRows> /* a and b from shared memory, 1: sums along rows of the tile */                    \
    static __device__ __forceinline__ void shared(float (&d)[N / 2], uint64_t a, uint64_t b, int add) {                 \
      asm volatile("{.reg .pred p; setp.ne.b32 p, %" #I2 ", 0;\n"                                                       \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" LIST "}, %" #I0 ", %" #I1       \
                   ", p, 1, 1, %" #I3 ", %" #I4 ";}\n" : __VA_ARGS__ : "l"(a), "l"(b), "r"(add), "n"(ARows), "n"(BRows));       \
    }                                                                                                                   \
    template <int BRows> /* a from registers */                                                                         \
    static __device__ __forceinline__ void registers(float (&d)[N / 2], const uint32_t* a, uint64_t b, int add) {       \
      asm volatile("{.reg .pred p; setp.ne.b32 p, %" #I5 ", 0;\n"                                                       \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" LIST "}, {%" #I0 ", %" #I1      \
                   ", %" #I2 ", %" #I3 "}, %" #I4 ", p, 1, 1, %" #I6 ";}\n"                                             \
                   : __VA_ARGS__ : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(BRows));                   \
    }                                                                                                                   \
  };
#define WEFT_MMA_TYPES(...) WEFT_MMA(__nv_bfloat16, "bf16", __VA_ARGS__) WEFT_MMA(__half, "f16", __VA_ARGS__)
#define WEFT_LIST_64 WEFT_0 WEFT_10(1) WEFT_10(2) "%30, %31"
#define WEFT_LIST_128 WEFT_0 WEFT_10(1) WEFT_10(2) WEFT_10(3) WEFT_10(4) WEFT_10(5) "%60, %61, %62, %63"
#define WEFT_LIST_176 WEFT_0 WEFT_10(1) WEFT_10(2) WEFT_10(3) WEFT_10(4) WEFT_10(5) WEFT_10(6) WEFT_10(7) "%80, %81, %82, %83, %84, %85, %86, %87"
#define WEFT_OUT_64 WEFT_F32(0)
#define WEFT_OUT_128 WEFT_F32(0), WEFT_F32(32)
#define WEFT_OUT_176 WEFT_F32(0), WEFT_F32(32), WEFT_F8(64), WEFT_F8(72), WEFT_F8(80)
WEFT_MMA_TYPES(64, WEFT_LIST_64, 32, 33, 34, 35, 36, 37, 38, WEFT_OUT_64)
WEFT_MMA_TYPES(128, WEFT_LIST_128, 64, 65, 66, 67, 68, 69, 70, WEFT_OUT_128)
WEFT_MMA_TYPES(176, WEFT_LIST_176, 88, 89, 90, 91, 92, 93, 94, WEFT_OUT_176)
#undef WEFT_0
#undef WEFT_10
#undef WEFT_F8
#undef WEFT_F32
#undef WEFT_MMA
#undef WEFT_MMA_TYPES
#undef WEFT_LIST_64
#undef WEFT_LIST_128
#undef WEFT_LIST_176
#undef WEFT_OUT_64
#undef WEFT_OUT_128
#undef WEFT_OUT_176
// clang-format on

// --- Rounding and packing ---

template <class T>
__device__ __forceinline__ uint32_t pack(float low, float high);
template <>
__device__ __forceinline__ uint32_t pack<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const uint32_t&>(v);
}
template <>
__device__ __forceinline__ uint32_t pack<__half>(float low, float high) {
  const __half2 v = __floats2half2_rn(low, high);
  return reinterpret_cast<const uint32_t&>(v);
}

/// A product's result as the register operand of the next one: 4 registers for every 16 columns.
template <class T, int N>
__device__ __forceinline__ void pack_operand(const float (&d)[N], uint32_t (&a)[N / 2]) {
#pragma unroll
  for (int i = 0; i < N / 2; ++i) a[i] = pack<T>(d[2 * i], d[2 * i + 1]);
}

/// Four 8×8 matrices to shared memory: of matrix i, thread t holds row t/4, columns 2(t%4) + {0, 1} in x[i], and row r
/// goes to the shared address that thread 8i + r gives.
__device__ __forceinline__ void store_matrices(uint32_t to, const uint32_t* x) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x[0]), "r"(x[1]),
               "r"(x[2]), "r"(x[3])
               : "memory");
}

#endif

}  // namespace weft::cuda::hopper
