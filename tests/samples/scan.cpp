#include "support/sample.h"

#include <cmath>

namespace weft::test {

namespace {

using Ids = std::vector<int64_t>;

// Calls f(lane) with the flat positions of every lane along dim, in the order of the scan.
void for_lanes(const Shape& shape, int64_t dim, bool reverse, const std::function<void(const Ids&)>& f) {
  const int64_t n = shape[dim], step = shape.contiguous_strides()[dim];
  if (shape.numel() == 0) return;
  for (int64_t i = 0; i < shape.numel(); ++i) {
    if (i / step % n != 0) continue;
    Ids lane;
    for (int64_t t = 0; t < n; ++t) lane.push_back(i + (reverse ? n - 1 - t : t) * step);
    f(lane);
  }
}

// y of each lane from the values of x's lane.
Tensor by_lane(const Tensor& x, int64_t dim, bool reverse,
               const std::function<std::vector<double>(const std::vector<double>&)>& f) {
  const auto v = x.to_vector<double>();
  std::vector<double> y(v.size());
  for_lanes(x.shape(), dim, reverse, [&](const Ids& lane) {
    std::vector<double> in;
    for (int64_t i : lane) in.push_back(v[static_cast<size_t>(i)]);
    const auto out = f(in);
    for (size_t t = 0; t < lane.size(); ++t) y[static_cast<size_t>(lane[t])] = out[t];
  });
  return tensor(y, x.shape());
}

// Every total computed from scratch.
std::vector<double> totals(const std::vector<double>& v, bool product, bool exclusive) {
  std::vector<double> y;
  for (size_t t = 0; t < v.size(); ++t) {
    double s = product ? 1 : 0;
    for (size_t i = 0; i < (exclusive ? t : t + 1); ++i) s = product ? s * v[i] : s + v[i];
    y.push_back(s);
  }
  return y;
}

void total_samples(SampleList& l, const char* op, bool product, Tensor (*call)(const Tensor&, int64_t, ScanOptions)) {
  auto one = [&](const char* variant, const Tensor& x, int64_t dim, ScanOptions o) {
    l.samples.push_back({.op = op,
                         .variant = variant,
                         .inputs = {x},
                         .call = [=](const Tensors& x) -> Tensors { return {call(x[0], dim, o)}; },
                         .reference = [=](const Tensors& x) -> Tensors {
                           return {by_lane(x[0], dim, o.reverse, [&](const std::vector<double>& v) {
                             return totals(v, product, o.exclusive);
                           })};
                         }});
  };
  one("last dim", values({3, 5}, 1), 1, {});
  one("dim 0", values({4, 3}, 2), 0, {});
  one("middle", values({2, 3, 2}, 3), 1, {});
  one("exclusive", values({2, 4}, 4), 1, {.exclusive = true});
  one("reverse", values({2, 4}, 5), 1, {.reverse = true});
  one("exclusive, reverse, dim 0", values({4, 2}, 6), 0, {.exclusive = true, .reverse = true});
  one("size 1", values({3, 1}, 7), 1, {.exclusive = true});
  one("empty", values({2, 0}, 8), 1, {});
  one("zeros", make({2, 5}, [](int64_t i) { return i % 3 == 1 ? 0.0 : 0.5 + 0.25 * static_cast<double>(i); }), 1, {});
  one("zeros, exclusive, reverse",
      make({5}, [](int64_t i) { return i == 2 ? 0.0 : 0.5 * static_cast<double>(i) - 1.2; }), 0,
      {.exclusive = true, .reverse = true});
  l.samples.push_back({.op = op,
                       .variant = "integers",
                       .inputs = {tensor(Ids{2, 3, 1, 2}, {4}).to(int32)},
                       .call = [=](const Tensors& x) -> Tensors { return {call(x[0], 0, {})}; },
                       .reference = [=](const Tensors&) -> Tensors {
                         return {product ? tensor(Ids{2, 6, 6, 12}, {4}) : tensor(Ids{2, 5, 6, 8}, {4})};
                       },
                       .order = 0});
  l.errors.push_back({op,
                      [=] {
                        call(zeros({2, 3}), 2, {});
                      },
                      std::string(op) + ": dim 2 is out of range for 2 dimensions"});
}

void extreme_samples(SampleList& l, const char* op, bool largest, ValuesIndices (*call)(const Tensor&, int64_t)) {
  auto one = [&](const char* variant, const Tensor& x, int64_t dim) {
    l.samples.push_back({.op = op,
                         .variant = variant,
                         .inputs = {x},
                         .call = [=](const Tensors& x) -> Tensors {
                           const auto [values, indices] = call(x[0], dim);
                           return {values, indices};
                         },
                         .reference = [=](const Tensors& x) -> Tensors {
                           auto places = [&](const std::vector<double>& v) {
                             std::vector<double> best;
                             for (size_t t = 0, b = 0; t < v.size(); ++t) {
                               if (largest ? v[t] >= v[b] : v[t] <= v[b]) b = t;
                               best.push_back(static_cast<double>(b));
                             }
                             return best;
                           };
                           return {by_lane(x[0], dim, false,
                                           [&](const std::vector<double>& v) {
                                             auto y = places(v);
                                             for (double& b : y) b = v[static_cast<size_t>(b)];
                                             return y;
                                           }),
                                   by_lane(x[0], dim, false, places).to(int64)};
                         }});
  };
  one("last dim", values({2, 5}, 11), 1);
  one("dim 0", values({4, 3}, 12), 0);
  one("size 1", values({1, 2}, 13), 0);
  one("empty", values({0, 2}, 14), 0);
  l.errors.push_back({op, [=] { call(zeros({2}), 1); }, std::string(op) + ": dim 1 is out of range for 1 dimensions"});
}

Tensor naive_linear_scan(const Tensor& a, const Tensor& b, int64_t dim, bool reverse) {
  const Shape shape = broadcast_shapes(a.shape(), b.shape(), "ref");
  const auto va = a.expand(shape).to_vector<double>(), vb = b.expand(shape).to_vector<double>();
  std::vector<double> y(va.size());
  for_lanes(shape, dim, reverse, [&](const Ids& lane) {
    double h = 0;
    for (int64_t i : lane) y[static_cast<size_t>(i)] = h = va[static_cast<size_t>(i)] * h + vb[static_cast<size_t>(i)];
  });
  return tensor(y, shape);
}

void linear_samples(SampleList& l) {
  auto one = [&](const char* variant, const Shape& a, const Shape& b, int64_t dim, bool reverse) {
    l.samples.push_back(
        {.op = "linear_scan",
         .variant = variant,
         .inputs = {values(a, 21, -0.9, 0.9), values(b, 22)},
         .call = [=](const Tensors& x) -> Tensors { return {linear_scan(x[0], x[1], dim, reverse)}; },
         .reference = [=](const Tensors& x) -> Tensors { return {naive_linear_scan(x[0], x[1], dim, reverse)}; }});
  };
  one("last dim", {2, 5}, {2, 5}, 1, false);
  one("dim 0, reverse", {5, 3}, {5, 3}, 0, true);
  one("broadcast", {3, 1, 2}, {4, 1}, 1, false);
  one("size 1", {2, 1}, {2, 1}, 1, false);
  one("empty", {0, 2}, {0, 2}, 0, true);
  l.errors.push_back({"linear_scan",
                      [] {
                        linear_scan(zeros({2, 3}), zeros({2, 4}), 1);
                      },
                      "linear_scan: shapes do not broadcast: [2, 3] and [2, 4]"});
  l.errors.push_back(
      {"linear_scan", [] { linear_scan(zeros({}), zeros({}), 0); }, "linear_scan: a scalar has nothing to run along"});
}

}  // namespace

void scan_samples(SampleList& l) {
  total_samples(l, "cumsum", false, cumsum);
  total_samples(l, "cumprod", true, cumprod);
  extreme_samples(l, "cummax", true, cummax);
  extreme_samples(l, "cummin", false, cummin);
  linear_samples(l);

  auto log_sum = [&](const char* variant, const Tensor& x, int64_t dim) {
    l.samples.push_back({.op = "logcumsumexp",
                         .variant = variant,
                         .inputs = {x},
                         .call = [dim](const Tensors& x) -> Tensors { return {logcumsumexp(x[0], dim)}; },
                         .reference = [dim](const Tensors& x) -> Tensors {
                           return {by_lane(x[0], dim, false, [](const std::vector<double>& v) {
                             std::vector<double> y;
                             for (size_t t = 0; t < v.size(); ++t) {
                               const double high =
                                   *std::max_element(v.begin(), v.begin() + static_cast<int64_t>(t) + 1);
                               double s = 0;
                               for (size_t i = 0; i <= t; ++i) s += std::exp(v[i] - high);
                               y.push_back(high + std::log(s));
                             }
                             return y;
                           })};
                         }});
  };
  log_sum("last dim", values({2, 5}, 31), 1);
  log_sum("dim 0", values({4, 3}, 32), 0);
  log_sum("far apart", make({6}, [](int64_t i) { return static_cast<double>(i * i) * 40 - 300; }), 0);
  log_sum("size 1", values({2, 1}, 33), 1);
  log_sum("empty", values({2, 0}, 34), 1);
  l.errors.push_back(
      {"logcumsumexp", [] { logcumsumexp(arange(3), 0); }, "logcumsumexp: expected a floating tensor, got int64"});
}

}  // namespace weft::test
