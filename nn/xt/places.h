// places: counting on the device.
#pragma once

#include <weft/nn/xt/sublayer.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/scan.h>
#include <weft/ops/shape.h>

namespace weft::xt {

/// from, from + 1, ..., to - 1, int64. On a GPU it is counted there: a copy from the host could not be part of a graph.
inline Tensor places(int64_t from, int64_t to, Device device) {
  if (device == Device::cpu()) return arange(from, to);
  return cumsum(ones({std::max<int64_t>(0, to - from)}, {.dtype = int64, .device = device}), 0) + (from - 1);
}

/// [n, 1]: the places of n queries among m keys, the last ones unless said otherwise.
inline Tensor query_places(const KeyPlaces& given, int64_t n, int64_t m, Device device) {
  return reshape(given.defined() ? given.queries : places(m - n, m, device), {n, 1});
}

/// The same with so many keys put in front.
inline KeyPlaces after(const KeyPlaces& given, int64_t keys) {
  if (!given.defined() || keys == 0) return given;
  return {given.queries + keys, given.length + keys};
}

}  // namespace weft::xt
