// Sorting by CUB: an element becomes an unsigned key that rises as it should come, and a stable radix sort carries its
// position along.
#include <weft/ops/scan_op.h>
#include <weft/ops/shape.h>
#include <weft/cuda/common.cuh>

#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
#include <cub/device/device_segmented_radix_sort.cuh>

namespace weft::cuda {

namespace {

// Unsigned and in the order of v: negative numbers have their bits flipped, others the sign bit; NaN comes last and
// both zeros are one.
__device__ uint64_t ordered(double v) {
  const uint64_t u = __double_as_longlong(v + 0.0);
  return v != v ? ~uint64_t{0} : u ^ (u >> 63 ? ~uint64_t{0} : uint64_t{1} << 63);
}
__device__ uint64_t ordered(int64_t v) { return static_cast<uint64_t>(v) ^ (uint64_t{1} << 63); }

template <class C>
__global__ void keys_kernel(Data x, int64_t numel, int64_t n, bool descending, uint64_t* keys, int64_t* positions) {
  WEFT_GRID_LOOP(i, numel) {
    const uint64_t key = ordered(x.load<C>(i));
    keys[i] = descending ? ~key : key;
    positions[i] = i % n;
  }
}

struct RowStart {
  int64_t n;
  __host__ __device__ int64_t operator()(int64_t row) const { return row * n; }
};

template <class C>
__global__ void arg_extreme_kernel(bool largest, Space<2> s, int64_t length, int64_t step) {
  WEFT_GRID_LOOP(i, s.numel) {
    int64_t at[2], where = 0;
    s.locate(i, at);
    C best = s.operand[1].data.load<C>(at[1]);
    for (int64_t t = 1; t < length; ++t) {
      const C v = s.operand[1].data.load<C>(at[1] + t * step);
      if (beats(largest, v, best)) best = v, where = t;
    }
    s.operand[0].data.store(at[0], where);
  }
}

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
  const int64_t n = x.shape().back(), rows = x.numel() / n;
  Tensor keys = empty({2, x.numel()}, int64, x.device()), positions = empty({x.numel()}, int64, x.device());
  auto* in = reinterpret_cast<uint64_t*>(keys.data<int64_t>());
  auto make = [&]<class C>(Type<C>) {
    launch("argsort", x.numel(), keys_kernel<C>, data_of(x), x.numel(), n, descending, in, positions.data<int64_t>());
  };
  if (x.is_floating())
    make(Type<double>{});
  else
    make(Type<int64_t>{});
  auto begin = thrust::make_transform_iterator(thrust::make_counting_iterator<int64_t>(0), RowStart{n});
  size_t bytes = 0;
  auto sort = [&](void* scratch) {
    check_cuda(cub::DeviceSegmentedRadixSort::SortPairs(scratch, bytes, in, in + x.numel(), positions.data<int64_t>(),
                                                        indices.data<int64_t>(), x.numel(), rows, begin, begin + 1, 0,
                                                        64, stream()),
               "argsort");
  };
  sort(nullptr);
  const Tensor scratch = empty({static_cast<int64_t>(bytes)}, uint8, x.device());
  sort(scratch.raw_data());
}

void topk(const Tensor& x, bool largest, bool, Tensor& indices) {
  if (indices.numel() == 0) return;
  Tensor all = empty(x.shape(), int64, x.device());
  argsort(x, largest, all);
  indices.copy_(slice(all, -1, 0, indices.shape().back()));
}

void arg_extreme(bool largest, const Tensor& x, int64_t dim, Tensor& indices) {
  if (indices.numel() == 0) return;
  DeviceScope scope(x);
  const Tensor lanes = as_strided_raw(x, indices.shape(), x.strides(), x.impl().offset);
  const Space<2> s(indices.shape(), {&indices, &lanes});
  dispatch_compute(x.dtype(), [&]<class C>(Type<C>) {
    launch("argmax", s.numel, arg_extreme_kernel<C>, largest, s, x.shape()[dim], x.strides()[dim]);
  });
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
