#include <weft/cuda/common.cuh>

namespace weft::cuda {

namespace {

// x with dimension dim standing still, in the shape of the index.
Tensor without_dim(const Tensor& x, int64_t dim, const Shape& shape) {
  Shape strides = x.strides();
  strides[dim] = 0;
  return as_strided_raw(x, shape, strides, x.impl().offset);
}

// A flag that kernels raise at an index out of range; the first one is then looked up on the host, for the message.
class RangeFlag {
 public:
  explicit RangeFlag(const Tensor& like) : flag_(empty({}, int32, like.device())) {
    check_cuda(cudaMemsetAsync(flag_.raw_data(), 0, sizeof(int), stream()), "index");
  }
  int* data() const { return flag_.data<int32_t>(); }
  void check_all(const char* op, int64_t dim, const Tensor& index, int64_t low, int64_t n) const {
    if (flag_.item<int64_t>() == 0) return;
    for (int64_t id : index.to_vector<int64_t>())
      check(id >= low && id < n, op, ": index ", id, " is out of range for dim ", dim, " of size ", n);
    fail(op, ": an index was changed by another thread");
  }

 private:
  Tensor flag_;
};

struct Bytes {  // an element of any size, moved as it is
  char* data;
  int size;
  __device__ void copy_from(int64_t to, const Bytes& from, int64_t at) const {
    for (int b = 0; b < size; ++b) data[to * size + b] = from.data[at * size + b];
  }
};
Bytes bytes_of(const Tensor& x) { return {static_cast<char*>(x.raw_data()), static_cast<int>(size_of(x.dtype()))}; }

__global__ void gather_kernel(Space<3> s, Bytes x, Bytes y, int64_t size, int64_t step, int* bad) {
  WEFT_GRID_LOOP(i, s.numel) {
    int64_t at[3];
    s.locate(i, at);
    const int64_t id = s.operand[1].data.load<int64_t>(at[1]);
    if (id < 0 || id >= size)
      *bad = 1;
    else
      y.copy_from(at[0], x, at[2] + id * step);
  }
}

// A thread a lane, in order along dim: what meets in one place is always added in the same order.
template <class C>
__global__ void scatter_kernel(Space<3> s, Bytes y, Bytes src, bool accumulate, int64_t length, int64_t size,
                               int64_t step_y, int64_t step_index, int64_t step_src, int* bad) {
  WEFT_GRID_LOOP(lane, s.numel) {
    int64_t at[3];
    s.locate(lane, at);
    for (int64_t j = 0; j < length; ++j) {
      const int64_t id = s.operand[1].data.load<int64_t>(at[1] + j * step_index);
      if (id < 0 || id >= size) {
        *bad = 1;
        continue;
      }
      const int64_t to = at[0] + id * step_y, from = at[2] + j * step_src;
      if (accumulate)
        s.operand[0].data.store(to, s.operand[0].data.load<C>(to) + s.operand[2].data.load<C>(from));
      else
        y.copy_from(to, src, from);
    }
  }
}

__global__ void fold_kernel(Space<2> s, int64_t n, int* bad) {
  WEFT_GRID_LOOP(i, s.numel) {
    int64_t at[2];
    s.locate(i, at);
    const int64_t id = s.operand[1].data.load<int64_t>(at[1]);
    if (id < -n || id >= n) *bad = 1;
    s.operand[0].data.store(at[0], s.operand[0].data.load<int64_t>(at[0]) * n + (id < 0 ? id + n : id));
  }
}

// One block: counts of each thread's part, where each part begins, then the positions.
__global__ void nonzero_kernel(const bool* x, int64_t n, int64_t* positions) {
  __shared__ int64_t start[kThreads + 1];
  const int64_t part = (n + kThreads - 1) / kThreads, begin = threadIdx.x * part < n ? threadIdx.x * part : n,
                end = begin + part < n ? begin + part : n;
  int64_t count = 0;
  for (int64_t i = begin; i < end; ++i) count += x[i];
  start[threadIdx.x + 1] = count;
  __syncthreads();
  if (threadIdx.x == 0) {
    start[0] = 0;
    for (int t = 0; t < kThreads; ++t) start[t + 1] += start[t];
  }
  __syncthreads();
  int64_t* to = positions + start[threadIdx.x];
  for (int64_t i = begin; i < end; ++i) {
    if (x[i]) *to++ = i;
  }
}

}  // namespace

void gather(const char* op, const Tensor& x, int64_t dim, const Tensor& index, Tensor& y) {
  if (y.numel() == 0) return;
  DeviceScope scope(x);
  const Tensor base = without_dim(x, dim, index.shape());
  const Space<3> s(index.shape(), {&y, &index, &base});
  const RangeFlag bad(x);
  launch(op, s.numel, gather_kernel, s, bytes_of(x), bytes_of(y), x.shape()[dim], x.strides()[dim], bad.data());
  bad.check_all(op, dim, index, 0, x.shape()[dim]);
}

void scatter(const char* op, int64_t dim, const Tensor& index, const Tensor& src, bool accumulate, Tensor& y) {
  if (index.numel() == 0) return;
  DeviceScope scope(y);
  Shape lanes = index.shape();
  lanes[dim] = 1;
  const Tensor ly = without_dim(y, dim, lanes), li = without_dim(index, dim, lanes), ls = without_dim(src, dim, lanes);
  const Space<3> s(lanes, {&ly, &li, &ls});
  const RangeFlag bad(y);
  dispatch_compute(y.dtype(), [&]<class C>(Type<C>) {
    launch(op, s.numel, scatter_kernel<C>, s, bytes_of(y), bytes_of(src), accumulate, index.shape()[dim],
           y.shape()[dim], y.strides()[dim], index.strides()[dim], src.strides()[dim], bad.data());
  });
  bad.check_all(op, dim, index, 0, y.shape()[dim]);
}

void fold_index(const char* op, int64_t dim, const Tensor& index, int64_t n, Tensor& flat) {
  if (flat.numel() == 0) return;
  DeviceScope scope(flat);
  const Space<2> s(flat.shape(), {&flat, &index});
  const RangeFlag bad(flat);
  launch(op, s.numel, fold_kernel, s, n, bad.data());
  bad.check_all(op, dim, index, -n, n);
}

void nonzero(const Tensor& x, Tensor& positions) {
  if (x.numel() == 0) return;
  DeviceScope scope(x);
  nonzero_kernel<<<1, kThreads, 0, stream()>>>(x.data<bool>(), x.numel(), positions.data<int64_t>());
  check_cuda(cudaGetLastError(), "nonzero");
}

}  // namespace weft::cuda
