// What the tests of the CUDA runtime share: they need a GPU, and say so where there is none.
#pragma once

#include <weft/autograd/autograd.h>
#include <weft/cuda/graph.h>
#include <weft/nn/optim/optimizer.h>
#include <weft/ops/copy.h>
#include <weft/weft.h>

#include <doctest/doctest.h>

#include <cstring>

#include "support/message_of.h"

#define NEEDS_GPU()                      \
  if (cuda::device_count() == 0) {       \
    MESSAGE("there is no GPU: skipped"); \
    return;                              \
  }                                      \
  const DefaultDevice on_the_gpu(Device::cuda())

namespace weft::test {

/// How many elements of a and b differ in any bit.
inline int64_t different_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.detach().cpu().contiguous(), y = b.detach().cpu().contiguous();
  if (!(x.shape() == y.shape()) || x.dtype() != y.dtype()) return -1;
  const size_t size = size_of(x.dtype());
  int64_t count = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const auto at = static_cast<size_t>(i) * size;
    count += std::memcmp(static_cast<char*>(x.raw_data()) + at, static_cast<char*>(y.raw_data()) + at, size) != 0;
  }
  return count;
}

}  // namespace weft::test
