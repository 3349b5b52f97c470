// One launch over the elements of many tensors, as optimisers want: lists of tensors of equal shapes, cut into chunks;
// the table of where they lie travels with the launch as an argument.
#pragma once

#include <weft/cuda/common.cuh>

#include <vector>

namespace weft::cuda {

inline constexpr int64_t kChunk = 4096;       // elements: four of 16 bytes a thread
inline constexpr int kTensorsALaunch = 512;   // tables of this many fit in a kernel's 32,764 bytes of arguments
inline constexpr int kMultiBlocks = 132 * 8;  // as many as run at a time

/// Tensor t of list l, for L lists.
template <int L>
struct Table {
  void* data[L][kTensorsALaunch];
  int64_t numel[kTensorsALaunch];
  int first_chunk[kTensorsALaunch + 1];
  DType dtype[L][kTensorsALaunch];
  int count = 0;

  __device__ int chunks() const { return first_chunk[count]; }
  __device__ int tensor_of(int chunk) const {
    int low = 0, high = count;  // first_chunk[low] <= chunk < first_chunk[high]
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first_chunk[middle] <= chunk ? low : high) = middle;
    }
    return low;
  }
};

/// Elements [begin, end) of tensor t in every list.
template <int L>
struct Chunk {
  Data list[L];
  int64_t begin, end;
  bool wide;  // every list can be read 16 bytes at a time

  __device__ Chunk(const Table<L>& table, int chunk) {
    const int t = table.tensor_of(chunk);
    begin = (chunk - table.first_chunk[t]) * kChunk;
    end = begin + kChunk < table.numel[t] ? begin + kChunk : table.numel[t];
    wide = true;
    for (int l = 0; l < L; ++l) {
      list[l] = {table.data[l][t], table.dtype[l][t]};
      wide = wide && reinterpret_cast<uintptr_t>(list[l].data) % 16 == 0;
    }
  }
};

/// v ← x[i .. i+4); i is a multiple of 4 and x aligned to 16 bytes.
template <class C>
__device__ void load4(const Data& x, int64_t i, C (&v)[4]) {
  if (x.dtype == DType::float32) {
    const float4 w = *reinterpret_cast<const float4*>(static_cast<const float*>(x.data) + i);
    v[0] = w.x, v[1] = w.y, v[2] = w.z, v[3] = w.w;
  } else if (x.dtype == DType::bfloat16) {
    const uint2 w = *reinterpret_cast<const uint2*>(static_cast<const BFloat16*>(x.data) + i);
    v[0] = __uint_as_float(w.x << 16), v[1] = __uint_as_float(w.x & 0xffff0000u);
    v[2] = __uint_as_float(w.y << 16), v[3] = __uint_as_float(w.y & 0xffff0000u);
  } else {
    for (int j = 0; j < 4; ++j) v[j] = x.load<C>(i + j);
  }
}
template <class C>
__device__ void store4(const Data& x, int64_t i, const C (&v)[4]) {
  if (x.dtype == DType::float32) {
    *reinterpret_cast<float4*>(static_cast<float*>(x.data) + i) = make_float4(
        static_cast<float>(v[0]), static_cast<float>(v[1]), static_cast<float>(v[2]), static_cast<float>(v[3]));
  } else {
    for (int j = 0; j < 4; ++j) x.store(i + j, v[j]);
  }
}

/// Calls f.update(v0, v1, ...) on every element of L lists and stores the lists whose bit is set in Writes. f.start()
/// is called once a thread before; where it gives false nothing is done.
template <class C, int L, unsigned Writes, class F>
__global__ void update_kernel(__grid_constant__ const Table<L> table, F f) {
  if (!f.start()) return;
  for (int k = blockIdx.x; k < table.chunks(); k += gridDim.x) {
    const Chunk<L> chunk(table, k);
    const int64_t whole = chunk.wide ? chunk.begin + (chunk.end - chunk.begin) / 4 * 4 : chunk.begin;
    for (int64_t i = chunk.begin + 4 * threadIdx.x; i < whole; i += 4 * kThreads) {
      C v[L][4];
      for (int l = 0; l < L; ++l) load4(chunk.list[l], i, v[l]);
      for (int j = 0; j < 4; ++j) {
        C at[L];
        for (int l = 0; l < L; ++l) at[l] = v[l][j];
        f.update(at);
        for (int l = 0; l < L; ++l) v[l][j] = at[l];
      }
      for (int l = 0; l < L; ++l) {
        if (Writes >> l & 1) store4(chunk.list[l], i, v[l]);
      }
    }
    for (int64_t i = whole + threadIdx.x; i < chunk.end; i += kThreads) {
      C at[L];
      for (int l = 0; l < L; ++l) at[l] = chunk.list[l].template load<C>(i);
      f.update(at);
      for (int l = 0; l < L; ++l) {
        if (Writes >> l & 1) chunk.list[l].store(i, at[l]);
      }
    }
  }
}

/// run(table, chunks) for as many tables as the tensors of one compute type C need; empty ones are
/// left out.
template <class C, size_t L, class F>
void for_tables(const Tensors* const (&lists)[L], F&& run) {
  Table<static_cast<int>(L)> table;
  auto flush = [&] {
    if (table.count) run(table, table.first_chunk[table.count]);
    table.count = 0;
  };
  table.first_chunk[0] = 0;
  for (size_t i = 0; i < lists[0]->size(); ++i) {
    const Tensor& x = (*lists[0])[i];
    if (x.numel() == 0 || (x.dtype() == float64) != std::is_same_v<C, double>) continue;
    const int t = table.count++;
    for (size_t l = 0; l < L; ++l) {
      table.data[l][t] = (*lists[l])[i].raw_data();
      table.dtype[l][t] = (*lists[l])[i].dtype();
    }
    table.numel[t] = x.numel();
    table.first_chunk[t + 1] = table.first_chunk[t] + static_cast<int>((x.numel() + kChunk - 1) / kChunk);
    if (table.count == kTensorsALaunch) flush();
  }
  flush();
}

/// Runs make(Type<C>{}), which gives an f as update_kernel wants it, over the lists, for each compute type C in them.
template <unsigned Writes, size_t L, class Make>
void update_all(const char* op, const Tensors* const (&lists)[L], Make&& make) {
  auto of_type = [&]<class C>(Type<C> type) {
    for_tables<C>(lists, [&](const auto& table, int chunks) {
      const auto f = make(type);
      update_kernel<C, static_cast<int>(L), Writes>
          <<<std::min(chunks, kMultiBlocks), kThreads, 0, stream()>>>(table, f);
      check_cuda(cudaGetLastError(), op);
    });
  };
  of_type(Type<float>{});
  of_type(Type<double>{});
}

}  // namespace weft::cuda
