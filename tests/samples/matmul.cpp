#include "support/sample.h"

#include <cmath>

namespace weft::test {

namespace {

// y[..., i, j] = Σ_p a[..., i, p] b[..., p, j] (+ bias[j])
Tensor naive_matmul(const Tensor& a, const Tensor& b) {
  const Shape lead = broadcast_shapes(Shape(a.shape().begin(), a.shape().end() - 2),
                                      Shape(b.shape().begin(), b.shape().end() - 2), "ref");
  Shape shape = lead;
  shape.push_back(a.size(-2)), shape.push_back(b.size(-1));
  const int64_t k = a.size(-1), nd = shape.size();
  return make(shape, [&](int64_t flat) {
    std::vector<int64_t> ia(static_cast<size_t>(nd)), ib;
    for (int64_t d = nd - 1; d >= 0; --d) ia[static_cast<size_t>(d)] = flat % shape[d], flat /= shape[d];
    ib = ia;
    double s = 0;
    for (int64_t p = 0; p < k; ++p) {
      ia[static_cast<size_t>(nd - 1)] = p, ib[static_cast<size_t>(nd - 2)] = p;
      s += at(a, ia) * at(b, ib);
    }
    return s;
  });
}

// x: [..., in], weight [out, in], bias [out]
Tensor naive_linear(const Tensors& x) {
  return map2(naive_matmul(x[0], x[1].t().contiguous()), x[2], [](double p, double q) { return p + q; });
}

Tensor activated(const Tensor& x, Activation a) {
  return map1(x, [a](double v) {
    if (a == Activation::relu) return std::max(v, 0.0);
    if (a == Activation::gelu) return v * 0.5 * std::erfc(-v / std::sqrt(2.0));
    if (a == Activation::gelu_tanh) return 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
    if (a == Activation::silu) return v / (1 + std::exp(-v));
    return v;
  });
}

void add_product(SampleList& l, const char* variant, const Shape& a, const Shape& b) {
  l.samples.push_back({.op = "matmul",
                       .variant = variant,
                       .inputs = {values(a, 1), values(b, 2)},
                       .call = [](const Tensors& x) -> Tensors { return {matmul(x[0], x[1])}; },
                       .reference = [](const Tensors& x) -> Tensors { return {naive_matmul(x[0], x[1])}; }});
}

void add_sum(SampleList& l, const char* variant, const Shape& c, const Shape& a, const Shape& b) {
  l.samples.push_back({.op = "baddbmm",
                       .variant = variant,
                       .inputs = {values(c, 3), values(a, 1), values(b, 2)},
                       .call = [](const Tensors& x) -> Tensors { return {baddbmm(x[0], x[1], x[2])}; },
                       .reference = [](const Tensors& x) -> Tensors {
                         return {map2(naive_matmul(x[1], x[2]), x[0], [](double p, double q) { return p + q; })};
                       }});
}

}  // namespace

void matmul_samples(SampleList& l) {
  add_sum(l, "matrices", {3, 4}, {3, 5}, {5, 4});
  add_sum(l, "a row for all", {4}, {2, 3, 5}, {5, 4});
  add_sum(l, "batches", {2, 3, 4, 6}, {2, 3, 4, 5}, {2, 3, 5, 6});
  add_sum(l, "batches that broadcast", {3, 1, 6}, {2, 1, 4, 5}, {3, 5, 6});
  add_sum(l, "inner size 0", {3, 2}, {3, 0}, {0, 2});
  add_sum(l, "rows of whole packs, one column over", {64, 65}, {64, 72}, {72, 65});
  l.errors.push_back({"baddbmm",
                      [] {
                        baddbmm(zeros({2, 2, 2}), zeros({2, 3}), zeros({3, 2}));
                      },
                      "baddbmm: [2, 2, 2] does not broadcast to [2, 2]"});
  l.errors.push_back({"baddbmm",
                      [] {
                        baddbmm(zeros({2}), zeros({2}), zeros({2, 2}));
                      },
                      "baddbmm: expected at least matrices: [2] × [2, 2]"});
  l.errors.push_back({"baddbmm",
                      [] {
                        baddbmm(zeros({2}, {.dtype = int64}), zeros({2, 2}), zeros({2, 2}));
                      },
                      "baddbmm: dtypes differ: int64 + float32"});
  add_product(l, "2-D", {3, 5}, {5, 4});
  add_product(l, "one row", {1, 7}, {7, 3});
  add_product(l, "inner size 1", {4, 1}, {1, 6});
  add_product(l, "inner size 0", {3, 0}, {0, 2});
  add_product(l, "inner size 0 for a batch", {2, 3, 0}, {0, 2});
  add_product(l, "no rows", {0, 3}, {3, 2});
  add_product(l, "inner size 0, one matrix for a batch", {2, 3, 0}, {0, 2});
  add_product(l, "batch", {2, 3, 5}, {2, 5, 4});
  add_product(l, "batch broadcast", {2, 1, 3, 5}, {3, 5, 2});
  add_product(l, "one matrix for a batch", {2, 2, 3, 5}, {5, 4});
  add_product(l, "odd and larger than a tile", {37, 67}, {67, 41});
  add_product(l, "one column", {5, 7}, {7, 1});
  add_product(l, "a batch of rows, one matrix", {3, 1, 4}, {4, 2});
  add_product(l, "one matrix on the left", {3, 4}, {2, 4, 5});
  add_product(l, "one matrix on the left, of more dimensions", {1, 1, 3, 4}, {2, 4, 5});
  add_product(l, "leading dimensions that broadcast both ways", {2, 1, 3, 2, 4}, {5, 1, 4, 3});
  add_product(l, "many leading dimensions that do not merge", {1, 3, 2, 4}, {7, 1, 4, 3});
  l.samples.push_back({.op = "matmul",
                       .variant = "heads of a transposed tensor",
                       .inputs = {values({2, 5, 3, 4}, 1), values({2, 6, 3, 4}, 2)},
                       .call = [](const Tensors& x) -> Tensors {
                         return {matmul(x[0].transpose(1, 2), x[1].transpose(1, 2).transpose(2, 3))};
                       },
                       .reference = [](const Tensors& x) -> Tensors {
                         return {make_at({2, 3, 5, 6}, [&](const Index& i) {
                           double s = 0;
                           for (int64_t d = 0; d < 4; ++d)
                             s += at(x[0], {i[0], i[2], i[1], d}) * at(x[1], {i[0], i[3], i[1], d});
                           return s;
                         })};
                       }});
  l.errors.push_back({"matmul",
                      [] {
                        matmul(zeros({2, 3}), zeros({4, 5}));
                      },
                      "matmul: inner sizes differ: [2, 3] × [4, 5]"});

  const auto activations = {std::pair{Activation::none, "none"},
                            {Activation::relu, "relu"},
                            {Activation::gelu, "gelu"},
                            {Activation::gelu_tanh, "gelu_tanh"},
                            {Activation::silu, "silu"}};
  for (const auto& [activation, name] : activations) {
    l.samples.push_back(
        {.op = "linear",
         .variant = name,
         .inputs = {values({2, 3, 5}, 3), values({4, 5}, 4), values({4}, 5)},
         .call = [a = activation](const Tensors& x) -> Tensors { return {linear(x[0], x[1], x[2], a)}; },
         .reference = [a = activation](const Tensors& x) -> Tensors { return {activated(naive_linear(x), a)}; }});
    l.samples.push_back(
        {.op = "linear",
         .variant = concat(name, ", whole vectors and rows of several blocks"),
         .inputs = {values({35, 16}, 3, -0.5, 0.5), values({24, 16}, 4, -0.5, 0.5), values({24}, 5)},
         .call = [a = activation](const Tensors& x) -> Tensors { return {linear(x[0], x[1], x[2], a)}; },
         .reference = [a = activation](const Tensors& x) -> Tensors { return {activated(naive_linear(x), a)}; }});
    for (const bool recompute : {false, true}) {
      l.samples.push_back({.op = "mlp",
                           .variant = concat(name, recompute ? ", recomputed" : ""),
                           .inputs = {values({2, 3, 5}, 3, -1, 1), values({8, 5}, 4, -1, 1), values({8}, 5),
                                      values({4, 8}, 6, -1, 1), values({4}, 7)},
                           .call = [a = activation, recompute](const Tensors& x) -> Tensors {
                             return {mlp(x[0], x[1], x[2], x[3], x[4], {.activation = a, .recompute = recompute})};
                           },
                           .reference = [a = activation](const Tensors& x) -> Tensors {
                             const Tensor h = activated(naive_linear({x[0], x[1], x[2]}), a);
                             return {naive_linear({h, x[3], x[4]})};
                           }});
    }
  }
  l.samples.push_back({.op = "linear",
                       .variant = "no features",
                       .inputs = {values({2, 3, 0}, 3), values({4, 0}, 4), values({4}, 5)},
                       .call = [](const Tensors& x) -> Tensors { return {linear(x[0], x[1], x[2])}; },
                       .reference = [](const Tensors& x) -> Tensors {
                         return {make_at({2, 3, 4}, [&](const Index& i) { return at(x[2], i); })};
                       }});
  l.samples.push_back(
      {.op = "linear",
       .variant = "without bias",
       .inputs = {values({3, 5}, 3), values({4, 5}, 4)},
       .call = [](const Tensors& x) -> Tensors { return {linear(x[0], x[1])}; },
       .reference = [](const Tensors& x) -> Tensors { return {naive_matmul(x[0], x[1].t().contiguous())}; }});
  l.samples.push_back({.op = "linear",
                       .variant = "no rows",
                       .inputs = {values({0, 5}, 3), values({4, 5}, 4), values({4}, 5)},
                       .call = [](const Tensors& x) -> Tensors { return {linear(x[0], x[1], x[2], Activation::silu)}; },
                       .reference = [](const Tensors& x) -> Tensors { return {naive_linear(x)}; }});
  l.samples.push_back({.op = "linear",
                       .variant = "one number from a vector",
                       .inputs = {values({7}, 3), values({1, 7}, 4), values({1}, 5)},
                       .call = [](const Tensors& x) -> Tensors { return {linear(x[0], x[1], x[2], Activation::gelu)}; },
                       .reference = [](const Tensors& x) -> Tensors {
                         return {activated(naive_linear({x[0].unsqueeze(0), x[1], x[2]}), Activation::gelu).squeeze(0)};
                       }});
  l.samples.push_back({.op = "mlp",
                       .variant = "without biases",
                       .inputs = {values({6, 5}, 3, -1, 1), values({8, 5}, 4, -1, 1), values({3, 8}, 5, -1, 1)},
                       .call = [](const Tensors& x) -> Tensors {
                         return {mlp(x[0], x[1], {}, x[2], {}, {.activation = Activation::gelu_tanh})};
                       },
                       .reference = [](const Tensors& x) -> Tensors {
                         const Tensor h = activated(naive_matmul(x[0], x[1].t().contiguous()), Activation::gelu_tanh);
                         return {naive_matmul(h, x[2].t().contiguous())};
                       }});
  const auto add_gated = [&](const char* variant, const Shape& shape, int64_t out, bool bias) {
    Tensors inputs{values(shape, 3), values(shape, 4), values({out, shape.back()}, 5)};
    if (bias) inputs.push_back(values({out}, 6));
    l.samples.push_back({.op = "swiglu_linear",
                         .variant = variant,
                         .inputs = inputs,
                         .call = [](const Tensors& x) -> Tensors {
                           return {swiglu_linear(x[0], x[1], x[2], x.size() > 3 ? x[3] : Tensor())};
                         },
                         .reference = [out](const Tensors& x) -> Tensors {
                           const Tensor h =
                               map2(x[0], activated(x[1], Activation::silu), [](double v, double g) { return v * g; });
                           return {naive_linear({h, x[2], x.size() > 3 ? x[3] : zeros({out}, {.dtype = float64})})};
                         }});
  };
  add_gated("three dimensions", {2, 3, 5}, 4, true);
  add_gated("no bias, whole packs", {16, 32}, 24, false);
  add_gated("no rows", {0, 5}, 4, true);
  l.errors.push_back({"swiglu_linear",
                      [] {
                        swiglu_linear(zeros({2, 3}), zeros({2, 4}), zeros({4, 3}));
                      },
                      "swiglu_linear: value [2, 3] and gate [2, 4] differ in shape"});
  l.errors.push_back({"mlp",
                      [] {
                        mlp(zeros({2, 3}), zeros({8, 3}), {}, zeros({4, 7}), {});
                      },
                      "mlp: input [2, 8] does not fit weight [4, 7]"});
  l.errors.push_back({"linear",
                      [] {
                        linear(zeros({2, 3}), zeros({4, 5}));
                      },
                      "linear: input [2, 3] does not fit weight [4, 5]"});
}

}  // namespace weft::test
