#include "support/sample.h"

#include <cmath>

namespace weft::test {

namespace {

using Row = std::vector<double>;

// f changes each row of n elements of x.
Tensor by_row(const Tensor& x, int64_t n, const std::function<void(Row&)>& f) {
  auto v = x.to_vector<double>();
  for (size_t begin = 0; begin < v.size(); begin += static_cast<size_t>(n)) {
    const auto first = v.begin() + static_cast<int64_t>(begin);
    Row row(first, first + n);
    f(row);
    std::copy(row.begin(), row.end(), first);
  }
  return make(x.shape(), [&](int64_t i) { return v[static_cast<size_t>(i)]; });
}

void standardise(Row& row, double eps) {
  double mean = 0, variance = 0;
  for (const double v : row) mean += v / static_cast<double>(row.size());
  for (const double v : row) variance += (v - mean) * (v - mean) / static_cast<double>(row.size());
  for (double& v : row) v = (v - mean) / std::sqrt(variance + eps);
}

double norm_of(const Row& row) {
  double s = 0;
  for (const double v : row) s += v * v;
  return std::sqrt(s);
}

Tensor scaled(const Tensor& y, const Tensors& x) {
  Tensor z = y;
  if (x.size() > 1) z = map2(z, x[1], [](double a, double b) { return a * b; });
  if (x.size() > 2) z = map2(z, x[2], [](double a, double b) { return a + b; });
  return z;
}

// With 0, 1 (weight) or 2 (bias too) parameters.
Tensors arguments(const Shape& shape, const Shape& normalized, size_t parameters) {
  Tensors x{values(shape, 3)};
  if (parameters > 0) x.push_back(values(normalized, 4));
  if (parameters > 1) x.push_back(values(normalized, 5));
  return x;
}

void add_layer(SampleList& l, const char* variant, const Shape& shape, const Shape& normalized, size_t parameters,
               double eps = 1e-5) {
  l.samples.push_back(
      {.op = "layer_norm",
       .variant = variant,
       .inputs = arguments(shape, normalized, parameters),
       .call = [=](const Tensors& x) -> Tensors {
         return {layer_norm(x[0], normalized, x.size() > 1 ? x[1] : Tensor(), x.size() > 2 ? x[2] : Tensor(), eps)};
       },
       .reference = [=](const Tensors& x) -> Tensors {
         return {scaled(by_row(x[0], normalized.numel(), [=](Row& r) { standardise(r, eps); }), x)};
       }});
}

// Weights that are stored less 1.
void add_offset(SampleList& l) {
  const auto plus_one = [](const Tensors& x) {
    Tensors y = x;
    y.erase(y.begin() + 1);
    y[1] = map2(y[1], y[1], [](double a, double) { return a + 1; });
    return y;
  };
  Tensors inputs = arguments({4, 7}, {7}, 2);
  inputs.insert(inputs.begin() + 1, values({4, 7}, 2));
  l.samples.push_back({.op = "add_layer_norm",
                       .variant = "weight offset",
                       .inputs = inputs,
                       .call = [](const Tensors& x) -> Tensors {
                         const auto [sum, y] = add_layer_norm(x[0], x[1], {7}, x[2], x[3], 1e-5, 1);
                         return {sum, y};
                       },
                       .reference = [=](const Tensors& x) -> Tensors {
                         const Tensor sum = map2(x[0], x[1], [](double a, double b) { return a + b; });
                         return {sum, scaled(by_row(sum, 7, [](Row& r) { standardise(r, 1e-5); }), plus_one(x))};
                       }});
  l.samples.push_back(
      {.op = "layer_norm",
       .variant = "weight offset",
       .inputs = arguments({2, 3, 5}, {5}, 1),
       .call = [](const Tensors& x) -> Tensors { return {layer_norm(x[0], {5}, x[1], {}, 1e-5, -0.5)}; },
       .reference = [](const Tensors& x) -> Tensors {
         const Tensor w = map2(x[1], x[1], [](double a, double) { return a - 0.5; });
         return {scaled(by_row(x[0], 5, [](Row& r) { standardise(r, 1e-5); }), {x[0], w})};
       }});
}

// {x + residual, its norm}
void add_sum(SampleList& l, const char* op, const char* variant, const Shape& shape, size_t parameters) {
  const bool layer = std::string(op) == "add_layer_norm";
  Tensors inputs = arguments(shape, {shape.back()}, parameters);
  inputs.insert(inputs.begin() + 1, values(shape, 2));
  l.samples.push_back({.op = op,
                       .variant = variant,
                       .inputs = inputs,
                       .call = [=](const Tensors& x) -> Tensors {
                         const Tensor w = x.size() > 2 ? x[2] : Tensor(), b = x.size() > 3 ? x[3] : Tensor();
                         const auto [sum, y] = layer ? add_layer_norm(x[0], x[1], {shape.back()}, w, b)
                                                     : add_rms_norm(x[0], x[1], {shape.back()}, w, 1e-5);
                         return {sum, y};
                       },
                       .reference = [=](const Tensors& x) -> Tensors {
                         const Tensor sum = map2(x[0], x[1], [](double a, double b) { return a + b; });
                         Tensors parts(x.begin() + 1, x.end());
                         return {sum, scaled(by_row(sum, shape.back(),
                                                    [=](Row& r) {
                                                      if (layer) return standardise(r, 1e-5);
                                                      const double s = norm_of(r);
                                                      for (double& v : r)
                                                        v /= std::sqrt(s * s / static_cast<double>(r.size()) + 1e-5);
                                                    }),
                                             parts)};
                       }});
}

void add_rms(SampleList& l, const char* variant, const Shape& shape, const Shape& normalized, size_t parameters,
             double eps) {
  l.samples.push_back({.op = "rms_norm",
                       .variant = variant,
                       .inputs = arguments(shape, normalized, parameters),
                       .call = [=](const Tensors& x) -> Tensors {
                         return {rms_norm(x[0], normalized, x.size() > 1 ? x[1] : Tensor(), eps)};
                       },
                       .reference = [=](const Tensors& x) -> Tensors {
                         return {scaled(by_row(x[0], normalized.numel(),
                                               [=](Row& r) {
                                                 const double s = norm_of(r);
                                                 for (double& v : r)
                                                   v /= std::sqrt(s * s / static_cast<double>(r.size()) + eps);
                                               }),
                                        x)};
                       }});
}

Tensor naive_scale(const Tensor& x, const Tensor& gain, double eps) {
  return scaled(by_row(x, x.size(-1),
                       [=](Row& r) {
                         const double s = std::max(norm_of(r) / std::sqrt(static_cast<double>(r.size())), eps);
                         for (double& v : r) v /= s;
                       }),
                {x, gain});
}

void add_scale(SampleList& l, const char* variant, const Shape& shape, double eps) {
  l.samples.push_back({.op = "scale_norm",
                       .variant = variant,
                       .inputs = {values(shape, 6), values({1}, 7)},
                       .call = [=](const Tensors& x) -> Tensors { return {scale_norm(x[0], x[1], eps)}; },
                       .reference = [=](const Tensors& x) -> Tensors { return {naive_scale(x[0], x[1], eps)}; }});
  l.samples.push_back({.op = "add_scale_norm",
                       .variant = variant,
                       .inputs = {values(shape, 6), values(shape, 8), values({1}, 7)},
                       .call = [=](const Tensors& x) -> Tensors {
                         const auto [sum, y] = add_scale_norm(x[0], x[1], x[2], eps);
                         return {sum, y};
                       },
                       .reference = [=](const Tensors& x) -> Tensors {
                         const Tensor sum = map2(x[0], x[1], [](double a, double b) { return a + b; });
                         return {sum, naive_scale(sum, x[2], eps)};
                       }});
}

void add_normalize(SampleList& l, const char* variant, const Shape& shape, int64_t dim, double eps) {
  l.samples.push_back({.op = "normalize",
                       .variant = variant,
                       .inputs = {values(shape, 8)},
                       .call = [=](const Tensors& x) -> Tensors { return {normalize(x[0], dim, eps)}; },
                       .reference = [=](const Tensors& x) -> Tensors {
                         const Tensor rows = x[0].dim() ? x[0].movedim(dim, -1).contiguous() : x[0].reshape({1});
                         const Tensor y = by_row(rows, rows.size(-1), [=](Row& r) {
                           const double s = std::max(norm_of(r), eps);
                           for (double& v : r) v /= s;
                         });
                         return {x[0].dim() ? y.movedim(-1, dim).contiguous() : y.reshape({})};
                       }});
}

void add_group(SampleList& l, const char* variant, const Shape& shape, int64_t groups, bool affine) {
  const int64_t channels = shape[1];
  l.samples.push_back({.op = "group_norm",
                       .variant = variant,
                       .inputs = arguments(shape, {channels}, affine ? 2 : 0),
                       .call = [=](const Tensors& x) -> Tensors {
                         return {x.size() > 1 ? group_norm(x[0], groups, x[1], x[2]) : group_norm(x[0], groups)};
                       },
                       .reference = [=](const Tensors& x) -> Tensors {
                         if (x[0].numel() == 0) return {x[0]};
                         const int64_t per_image = x[0].numel() / x[0].size(0), per_channel = per_image / channels;
                         const Tensor y = by_row(x[0], per_image / groups, [](Row& r) { standardise(r, 1e-5); });
                         if (x.size() == 1) return {y};
                         const auto v = y.to_vector<double>(), w = x[1].to_vector<double>(),
                                    b = x[2].to_vector<double>();
                         return {make(y.shape(), [&](int64_t i) {
                           const auto c = static_cast<size_t>(i / per_channel % channels);
                           return v[static_cast<size_t>(i)] * w[c] + b[c];
                         })};
                       }});
}

}  // namespace

void norm_samples(SampleList& l) {
  add_layer(l, "weight and bias", {2, 3, 5}, {5}, 2);
  add_layer(l, "weight", {3, 5}, {5}, 1);
  add_layer(l, "plain", {3, 5}, {5}, 0);
  add_layer(l, "two dimensions", {3, 2, 4}, {2, 4}, 2);
  add_layer(l, "one row", {7}, {7}, 2);
  add_layer(l, "rows longer than a vector", {2, 131}, {131}, 2);
  add_layer(l, "more rows than a block", {37, 3}, {3}, 2);
  add_layer(l, "no rows", {0, 3}, {3}, 2);
  add_layer(l, "large eps", {3, 5}, {5}, 2, 0.5);
  l.errors.push_back({"layer_norm",
                      [] {
                        layer_norm(zeros({2, 3}), {4});
                      },
                      "layer_norm: input [2, 3] does not end in [4]"});
  l.errors.push_back({"layer_norm",
                      [] {
                        layer_norm(zeros({2, 3}), {3}, ones({2}));
                      },
                      "layer_norm: expected a weight of shape [3], got [2]"});
  l.errors.push_back(
      {"layer_norm", [] { layer_norm(arange(3), {3}); }, "layer_norm: expected a floating tensor, got int64"});

  add_rms(l, "weight", {2, 3, 5}, {5}, 1, 1e-6);
  add_rms(l, "plain", {3, 5}, {5}, 0, 1e-6);
  add_rms(l, "two dimensions", {3, 2, 4}, {2, 4}, 1, 1e-6);
  add_rms(l, "one element a row", {4, 1}, {1}, 1, 0.1);
  add_rms(l, "no rows", {0, 3}, {3}, 1, 1e-6);
  l.errors.push_back({"rms_norm", [] { rms_norm(zeros({2, 3}), {2}); }, "rms_norm: input [2, 3] does not end in [2]"});

  add_offset(l);
  add_sum(l, "add_layer_norm", "weight and bias", {2, 3, 5}, 2);
  add_sum(l, "add_layer_norm", "plain", {3, 5}, 0);
  add_sum(l, "add_layer_norm", "longer rows", {3, 264}, 2);
  add_sum(l, "add_layer_norm", "no rows", {0, 5}, 2);
  add_sum(l, "add_rms_norm", "weight", {2, 3, 5}, 1);
  add_sum(l, "add_rms_norm", "plain", {7, 8}, 0);
  l.errors.push_back({"add_layer_norm",
                      [] {
                        add_layer_norm(zeros({2, 3}), zeros({3}), {3});
                      },
                      "add_layer_norm: input [2, 3] and residual [3] differ in shape"});

  add_scale(l, "3-D", {2, 3, 5}, 1e-5);
  add_scale(l, "all rows below eps", {2, 5}, 10);
  add_scale(l, "some rows below eps", {6, 5}, 1.1);
  add_scale(l, "no rows", {0, 5}, 1e-5);
  l.errors.push_back({"add_scale_norm",
                      [] {
                        add_scale_norm(zeros({2, 3}), zeros({2, 3}), ones({3}));
                      },
                      "add_scale_norm: expected a gain of one element, got [3]"});
  l.errors.push_back({"scale_norm",
                      [] {
                        scale_norm(zeros({2, 3}), ones({3}));
                      },
                      "scale_norm: expected a gain of one element, got [3]"});

  add_normalize(l, "last dim", {3, 5}, -1, 1e-12);
  add_normalize(l, "first dim", {5, 3}, 0, 1e-12);
  add_normalize(l, "middle dim", {2, 4, 3}, 1, 1e-12);
  add_normalize(l, "below eps", {3, 5}, -1, 10);
  add_normalize(l, "no rows", {0, 5}, -1, 1e-12);
  l.errors.push_back(
      {"normalize", [] { normalize(zeros({3}), 1); }, "normalize: dim 1 is out of range for 1 dimensions"});

  add_group(l, "one channel a group", {2, 3, 5}, 3, true);
  add_group(l, "two groups", {2, 4, 3, 2}, 2, true);
  add_group(l, "one group, plain", {2, 6}, 1, false);
  add_group(l, "no images", {0, 4, 3}, 2, true);
  l.errors.push_back({"group_norm",
                      [] {
                        group_norm(zeros({1, 5, 2}), 2);
                      },
                      "group_norm: 5 channels do not split into 2 groups"});
}

}  // namespace weft::test
