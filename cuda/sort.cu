// Orders. An element becomes an unsigned key that rises as it should come, no wider than its dtype needs; its position
// travels along. A row of up to 4096 elements is sorted by one block; longer ones by stable radix sorts of everything,
// by key and then by row. The first few of a short row are picked by one warp, which holds it in registers.
#include <weft/ops/scan_op.h>
#include <weft/ops/shape.h>
#include <weft/cuda/walk.cuh>

#include <cub/block/block_radix_sort.cuh>
#include <cub/device/device_radix_sort.cuh>

#include <bit>

namespace weft::cuda {

namespace {

// --- keys ------------------------------------------------------------------------------------------------------------

// Unsigned and in the order of v: negative numbers have their bits flipped, others the sign bit; NaN comes last and
// both zeros are one.
__device__ uint64_t ordered(double v) {
  const uint64_t u = __double_as_longlong(v + 0.0);
  return v != v ? ~uint64_t{0} : u ^ (u >> 63 ? ~uint64_t{0} : uint64_t{1} << 63);
}
__device__ uint32_t ordered(float v) {
  const uint32_t u = __float_as_uint(v + 0.0f);
  return v != v ? ~uint32_t{0} : u ^ (u >> 31 ? ~uint32_t{0} : uint32_t{1} << 31);
}
__device__ uint64_t ordered(int64_t v) { return static_cast<uint64_t>(v) ^ (uint64_t{1} << 63); }
__device__ uint32_t ordered(int32_t v) { return static_cast<uint32_t>(v) ^ (uint32_t{1} << 31); }

/// The key of element i in the low bits_of(dtype) bits.
template <class Key>
__device__ Key key_of(const Data& x, int64_t i, bool descending) {
  Key key = 0;
  if constexpr (sizeof(Key) == 8) {
    key = x.dtype == DType::float64 ? ordered(x.load<double>(i)) : ordered(x.load<int64_t>(i));
    return descending ? ~key : key;
  } else {
    switch (x.dtype) {
      case DType::bfloat16:
        key = ordered(x.load<float>(i)) >> 16;
        return descending ? key ^ 0xffff : key;
      case DType::uint8:
      case DType::boolean:
        key = static_cast<uint32_t>(x.load<int64_t>(i));
        return descending ? key ^ 0xff : key;
      case DType::int32:
        key = ordered(static_cast<int32_t>(x.load<int64_t>(i)));
        break;
      default:
        key = ordered(x.load<float>(i));
    }
    return descending ? ~key : key;
  }
}
int bits_of(DType d) { return d == bfloat16 ? 16 : static_cast<int>(d == float16 ? 4 : size_of(d)) * 8; }

/// f(Key()) with the type that x's keys fit in.
template <class F>
void dispatch_key(DType d, F&& f) {
  if (size_of(d) == 8) return f(uint64_t());
  f(uint32_t());
}

// --- a block a row ---------------------------------------------------------------------------------------------------

/// The first k positions of each row's order. n <= kThreads * kItems.
template <class Key, int kItems>
__global__ void __launch_bounds__(kThreads)
    block_sort_kernel(Data x, int n, int k, bool descending, int bits, int64_t* positions) {
  using Sort = cub::BlockRadixSort<Key, kThreads, kItems, uint16_t>;
  __shared__ typename Sort::TempStorage storage;
  const int64_t row = blockIdx.x;
  Key keys[kItems];
  uint16_t at[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const int place = static_cast<int>(threadIdx.x) * kItems + i;
    // What fills up comes last, after real elements with the largest key.
    keys[i] = place < n ? key_of<Key>(x, row * n + place, descending) : ~Key{0};
    at[i] = static_cast<uint16_t>(place);
  }
  Sort(storage).SortBlockedToStriped(keys, at, 0, bits);
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const int place = i * kThreads + static_cast<int>(threadIdx.x);
    if (place < k) positions[row * k + place] = at[i];
  }
}

// --- a warp a row ----------------------------------------------------------------------------------------------------

constexpr int kMostPicked = 32;

/// The first k positions of each row's order, for n <= 32 * kItems: a round finds the first of those that are left.
template <int kItems>
__global__ void __launch_bounds__(kThreads)
    pick_kernel(Data x, int64_t rows, int n, int k, bool largest, int64_t* positions) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t row = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  if (row >= rows) return;
  uint32_t keys[kItems];
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const int place = i * 32 + lane;
    keys[i] = place < n ? key_of<uint32_t>(x, row * n + place, largest) : ~0u;
  }
  uint32_t taken = 0;  // a bit an item
  for (int picked = 0; picked < k; ++picked) {
    uint32_t least = ~0u, item = kItems;
#pragma unroll
    for (int i = kItems - 1; i >= 0; --i) {  // of equal ones the first
      if (i * 32 + lane < n && !(taken >> i & 1) && keys[i] <= least) least = keys[i], item = i;
    }
    const uint32_t first = __reduce_min_sync(~0u, item < kItems ? least : ~0u);
    const uint32_t place = __reduce_min_sync(~0u, item < kItems && least == first ? item * 32 + lane : ~0u);
    if (place % 32 == static_cast<uint32_t>(lane)) taken |= 1u << place / 32;
    if (lane == 0) positions[row * k + picked] = place;
  }
}

// --- everything at once ----------------------------------------------------------------------------------------------

template <class Key>
__global__ void keys_kernel(Data x, uint32_t numel, bool descending, Key* keys, uint32_t* places) {
  WEFT_GRID_LOOP(i, numel) {
    keys[i] = key_of<Key>(x, i, descending);
    places[i] = static_cast<uint32_t>(i);
  }
}
__global__ void rows_kernel(const uint32_t* places, uint32_t numel, Divider n, uint32_t* rows) {
  WEFT_GRID_LOOP(i, numel) rows[i] = n.divide(places[i]);
}
// The first k of each row of n places, counted from the row's start.
__global__ void positions_kernel(const uint32_t* places, uint32_t total, Divider k, uint32_t n, int64_t* positions) {
  WEFT_GRID_LOOP(i, total) {
    const uint32_t row = k.divide(static_cast<uint32_t>(i));
    positions[i] = places[row * n + (static_cast<uint32_t>(i) - row * k.size)] - row * n;
  }
}

template <class T>
struct Buffer {
  Tensor memory;
  Buffer(int64_t n, Device device) : memory(empty({n * static_cast<int64_t>(sizeof(T))}, uint8, device)) {}
  T* data() const { return static_cast<T*>(memory.raw_data()); }
};

// Sorts places by the low bits of keys; both end in the buffers that are returned as current.
template <class Key>
void radix_sort(cub::DoubleBuffer<Key>& keys, cub::DoubleBuffer<uint32_t>& places, int64_t n, int bits, Device device) {
  size_t bytes = 0;
  auto sort = [&](void* scratch) {
    check_cuda(cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, places, static_cast<int>(n), 0, bits, stream()),
               "argsort");
  };
  sort(nullptr);
  const Buffer<uint8_t> scratch(static_cast<int64_t>(bytes), device);
  sort(scratch.data());
}

// x: [rows, n] with fewer than 2^31 elements; positions: [rows, k].
template <class Key>
void device_sort(const Tensor& x, int64_t n, int64_t k, bool descending, int64_t* positions) {
  const int64_t numel = x.numel(), rows = numel / n;
  const Buffer<Key> key_memory(2 * numel, x.device());
  const Buffer<uint32_t> place_memory(2 * numel, x.device());
  cub::DoubleBuffer<Key> keys(key_memory.data(), key_memory.data() + numel);
  cub::DoubleBuffer<uint32_t> places(place_memory.data(), place_memory.data() + numel);
  launch("argsort", numel, keys_kernel<Key>, data_of(x), static_cast<uint32_t>(numel), descending, keys.Current(),
         places.Current());
  radix_sort(keys, places, numel, bits_of(x.dtype()), x.device());
  if (rows > 1) {  // stable: within a row they stay as they are
    auto* memory = reinterpret_cast<uint32_t*>(key_memory.data());
    cub::DoubleBuffer<uint32_t> of_row(memory, memory + numel);
    launch("argsort", numel, rows_kernel, places.Current(), static_cast<uint32_t>(numel),
           Divider(static_cast<uint32_t>(n)), memory);
    radix_sort(of_row, places, numel, std::bit_width(static_cast<uint64_t>(rows - 1)), x.device());
  }
  launch("argsort", rows * k, positions_kernel, places.Current(), static_cast<uint32_t>(rows * k),
         Divider(static_cast<uint32_t>(k)), static_cast<uint32_t>(n), positions);
}

// The first k positions in the order of each row of n.
void first_of_rows(const Tensor& x, int64_t n, int64_t k, bool descending, int64_t* positions) {
  const int64_t rows = x.numel() / n, most = (int64_t{1} << 31) - 1;
  check(n <= most, "argsort: a row of ", n, " elements is too long: at most ", most);
  if (x.numel() > most) {
    const int64_t some = std::max<int64_t>(most / n, 1);
    const Tensor flat = reshape(x, {rows, n});
    for (int64_t row = 0; row < rows; row += some)
      first_of_rows(slice(flat, 0, row, row + some), n, k, descending, positions + row * k);
    return;
  }
  const Data data = data_of(x);
  if (size_of(x.dtype()) < 8 && k <= kMostPicked && n <= 1024 && k < n) {
    auto* kernel = n <= 256 ? pick_kernel<8> : pick_kernel<32>;
    kernel<<<static_cast<unsigned>((rows + 7) / 8), kThreads, 0, stream()>>>(
        data, rows, static_cast<int>(n), static_cast<int>(k), descending, positions);
    return check_cuda(cudaGetLastError(), "topk");
  }
  dispatch_key(x.dtype(), [&]<class Key>(Key) {
    if (n > 4096) return device_sort<Key>(x, n, k, descending, positions);
    auto* kernel = n <= 1024 ? block_sort_kernel<Key, 4> : block_sort_kernel<Key, 16>;
    kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream()>>>(data, static_cast<int>(n), static_cast<int>(k),
                                                                   descending, bits_of(x.dtype()), positions);
    check_cuda(cudaGetLastError(), "argsort");
  });
}

// --- searching -------------------------------------------------------------------------------------------------------

template <class C>
__global__ void searchsorted_kernel(Data sequence, Data values, int64_t numel, int64_t n, int64_t m, bool shared,
                                    bool right, int64_t* positions) {
  WEFT_GRID_LOOP(i, numel) {
    const int64_t row = shared ? 0 : i / m * n;
    const C v = values.load<C>(i);
    auto less = [](C a, C b) { return a < b || (b != b && a == a); };  // NaN is the largest
    int64_t low = 0, high = n;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      const C a = sequence.load<C>(row + middle);
      const bool before = right ? !less(v, a) : less(a, v);
      before ? low = middle + 1 : high = middle;
    }
    positions[i] = low;
  }
}

}  // namespace

void argsort(const Tensor& x, bool descending, Tensor& indices) {
  if (x.numel() == 0) return;
  DeviceScope scope(x);
  const int64_t n = x.shape().back();
  first_of_rows(x, n, n, descending, indices.data<int64_t>());
}

void topk(const Tensor& x, bool largest, bool, Tensor& indices) {
  if (indices.numel() == 0) return;
  DeviceScope scope(x);
  first_of_rows(x, x.shape().back(), indices.shape().back(), largest, indices.data<int64_t>());
}

void searchsorted(const Tensor& sequence, const Tensor& values, bool right, Tensor& positions) {
  if (values.numel() == 0) return;
  DeviceScope scope(values);
  dispatch_compute(values.dtype(), [&]<class C>(Type<C>) {
    launch("searchsorted", values.numel(), searchsorted_kernel<C>, data_of(sequence), data_of(values), values.numel(),
           sequence.shape().back(), values.shape().back(), sequence.shape()[0] == 1, right, positions.data<int64_t>());
  });
}

}  // namespace weft::cuda
