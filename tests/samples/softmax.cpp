#include "support/sample.h"

#include <cmath>
#include <limits>

namespace weft::test {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// Softmax along dim by the definition; mask (optional) has x's number of dimensions or fewer.
Tensor naive_softmax(const Tensor& x, const Tensor& mask, int64_t dim, bool log) {
  if (x.dim() == 0) return naive_softmax(x.reshape({1}), mask, 0, log).reshape({});
  const int64_t nd = x.dim();
  dim = dim < 0 ? dim + nd : dim;
  const auto present = [&](const std::vector<int64_t>& i) {
    return !mask.defined() || at(mask, std::vector<int64_t>(i.end() - mask.dim(), i.end())) != 0;
  };
  return make(x.shape(), [&](int64_t flat) {
    std::vector<int64_t> index(static_cast<size_t>(nd));
    for (int64_t d = nd - 1; d >= 0; --d) index[static_cast<size_t>(d)] = flat % x.shape()[d], flat /= x.shape()[d];
    if (!present(index)) return log ? -kInf : 0.0;
    const double own = at(x, index);
    double total = 0;  // relative to the own entry
    for (int64_t i = 0; i < x.size(dim); ++i) {
      index[static_cast<size_t>(dim)] = i;
      if (present(index)) total += std::exp(at(x, index) - own);
    }
    return log ? -std::log(total) : 1 / total;
  });
}

void add_softmax(SampleList& l, const char* variant, const Shape& shape, int64_t dim) {
  for (const bool log : {false, true}) {
    l.samples.push_back(
        {.op = log ? "log_softmax" : "softmax",
         .variant = variant,
         .inputs = {values(shape, 1)},
         .call = [=](const Tensors& x) -> Tensors { return {log ? log_softmax(x[0], dim) : softmax(x[0], dim)}; },
         .reference = [=](const Tensors& x) -> Tensors { return {naive_softmax(x[0], {}, dim, log)}; }});
  }
}

void add_masked(SampleList& l, const char* variant, const Shape& shape, const Shape& mask_shape, int64_t dim,
                const std::function<bool(int64_t)>& keep) {
  std::vector<bool> m(static_cast<size_t>(mask_shape.numel()));
  for (size_t i = 0; i < m.size(); ++i) m[i] = keep(static_cast<int64_t>(i));
  l.samples.push_back(
      {.op = "softmax",
       .variant = variant,
       .inputs = {values(shape, 2), tensor(m, mask_shape)},
       .call = [=](const Tensors& x) -> Tensors { return {softmax(x[0], x[1], dim)}; },
       .reference = [=](const Tensors& x) -> Tensors { return {naive_softmax(x[0], x[1], dim, false)}; }});
  // -inf has no finite difference: the masked entries of log_softmax are left out of the result.
  l.samples.push_back(
      {.op = "log_softmax",
       .variant = variant,
       .inputs = {values(shape, 2), tensor(m, mask_shape)},
       .call = [=](const Tensors& x) -> Tensors { return {where(x[1], log_softmax(x[0], x[1], dim), 0.0)}; },
       .reference = [=](const Tensors& x) -> Tensors {
         return {map1(naive_softmax(x[0], x[1], dim, true), [](double v) { return v == -kInf ? 0 : v; })};
       }});
}

}  // namespace

void softmax_samples(SampleList& l) {
  add_softmax(l, "last dim", {3, 5}, -1);
  add_softmax(l, "first dim", {5, 3}, 0);
  add_softmax(l, "middle dim", {2, 7, 3}, 1);
  add_softmax(l, "one element a row", {4, 1}, -1);
  add_softmax(l, "empty rows", {3, 0}, -1);
  add_softmax(l, "no rows", {0, 3}, -1);
  add_softmax(l, "scalar", {}, 0);
  add_softmax(l, "rows longer than a vector", {3, 67}, -1);
  add_softmax(l, "rows longer than a step", {2, 519}, -1);
  add_masked(l, "mask", {3, 5}, {3, 5}, -1, [](int64_t i) { return i % 3 != 1; });
  add_masked(l, "mask for all rows", {2, 3, 5}, {5}, -1, [](int64_t i) { return i != 2; });
  add_masked(l, "mask of whole rows", {4, 5}, {4, 1}, -1, [](int64_t i) { return i != 1; });
  add_masked(l, "mask, first dim", {5, 3}, {5, 3}, 0, [](int64_t i) { return i % 4 != 0; });
  l.errors.push_back({"softmax", [] { softmax(arange(3), 0); }, "softmax: expected a floating tensor, got int64"});
  l.errors.push_back({"softmax", [] { softmax(zeros({2, 3}), 2); }, "softmax: dim 2 is out of range for 2 dimensions"});
  l.errors.push_back({"softmax",
                      [] {
                        softmax(zeros({2, 3}), zeros({2, 4}, {.dtype = boolean}), -1);
                      },
                      "softmax: shapes do not broadcast: [2, 3] and [2, 4]"});
  l.errors.push_back({"softmax",
                      [] {
                        softmax(zeros({2, 3}), zeros({3}), -1);
                      },
                      "softmax: the mask must be bool, got float32"});
  l.errors.push_back(
      {"log_softmax", [] { log_softmax(arange(3), 0); }, "log_softmax: expected a floating tensor, got int64"});
}

}  // namespace weft::test
