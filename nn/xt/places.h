// places: counting on the device.
#pragma once

#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/scan.h>

namespace weft::xt {

/// from, from + 1, ..., to - 1, int64. On a GPU it is counted there: a copy from the host could not be part of a graph.
inline Tensor places(int64_t from, int64_t to, Device device) {
  if (device == Device::cpu()) return arange(from, to);
  return cumsum(ones({std::max<int64_t>(0, to - from)}, {.dtype = int64, .device = device}), 0) + (from - 1);
}

}  // namespace weft::xt
