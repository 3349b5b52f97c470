#include <weft/ops/copy.h>
#include <weft/cuda/common.cuh>

namespace weft::cuda {

void transfer(const Tensor& src, Tensor& dst, bool non_blocking);  // ops/copy.cpp

namespace {

template <class C>
__global__ void copy_kernel(Space<2> s) {  // operand 0: dst, 1: src
  WEFT_GRID_LOOP(i, s.numel) {
    int64_t at[2];
    s.locate(i, at);
    s.operand[0].data.store(at[0], s.operand[1].data.load<C>(at[1]));
  }
}

template <class C>
__global__ void fill_kernel(Space<1> s, C value) {
  WEFT_GRID_LOOP(i, s.numel) {
    int64_t at[1];
    s.locate(i, at);
    s.operand[0].data.store(at[0], value);
  }
}

}  // namespace

void copy(const Tensor& src, Tensor& dst) {
  if (dst.numel() == 0) return;
  const bool across = !(src.device() == dst.device());
  DeviceScope scope(dst.device().is_cuda() ? dst : src);
  if (across) {  // the layouts are made plain on their own devices, the bytes cross as they are
    const Tensor from = src.dtype() == dst.dtype() ? src.contiguous() : src.to(dst.dtype()).contiguous();
    if (dst.is_contiguous()) return transfer(from, dst, false);
    Tensor there = empty(dst.shape(), dst.dtype(), dst.device());
    transfer(from, there, false);
    return copy_into(there, dst);
  }
  if (src.dtype() == dst.dtype() && src.is_contiguous() && dst.is_contiguous()) {
    const auto bytes = static_cast<size_t>(src.numel()) * size_of(src.dtype());
    return check_cuda(cudaMemcpyAsync(dst.raw_data(), src.raw_data(), bytes, cudaMemcpyDeviceToDevice, stream()),
                      "copy");
  }
  const Space<2> s(dst.shape(), {&dst, &src});
  if (!src.is_floating() && !dst.is_floating())
    launch("copy", s.numel, copy_kernel<int64_t>, s);
  else
    launch("copy", s.numel, copy_kernel<double>, s);
}

void fill(Tensor& dst, Scalar value) {
  DeviceScope scope(dst);
  const Space<1> s(dst.shape(), {&dst});
  if (dst.is_floating())
    launch("fill", s.numel, fill_kernel<double>, s, value.to_double());
  else
    launch("fill", s.numel, fill_kernel<int64_t>, s,
           dst.dtype() == boolean ? int64_t{value.to<bool>()} : value.to_int());
}

}  // namespace weft::cuda
