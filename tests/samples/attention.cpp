#include "support/sample.h"

#include <weft/ops/attention.h>

#include <cmath>

namespace weft::test {

namespace {

struct Case {
  const char* variant;
  Shape q, k, v;
  Shape mask = {}, bias = {};  // empty: none
  bool causal = false;
  AttentionFn fn = AttentionFn::softmax;
  std::optional<double> scale = {};
  bool dead_row = false;  // query 1 may attend to nothing
};

double weight(AttentionFn fn, double s) {
  if (fn == AttentionFn::relu_squared) return s > 0 ? s * s : 0;
  return 0.5 * (1 + std::erf((s - std::sqrt(0.5)) / (std::sqrt(1 / (4 * M_PI)) * std::sqrt(2.0))));
}

// By the definition, one query at a time. Returns {out, lse}.
Tensors naive(const Case& c, const Tensors& x, const Tensor& mask, const Tensor& bias) {
  auto four = [](const Tensor& t) {
    Tensor y = t;
    while (y.dim() < 4) y = y.unsqueeze(y.dim() == 3 ? 1 : 0);
    return y;
  };
  const Tensor q = four(x[0]), k = four(x[1]), v = four(x[2]);
  const int64_t b = q.size(0), h = q.size(1), n = q.size(2), m = k.size(2), d = q.size(3), dv = v.size(3),
                group = h / k.size(1);
  std::vector<double> out(static_cast<size_t>(b * h * n * dv), 0), lse(static_cast<size_t>(b * h * n), -INFINITY);
  for (int64_t r = 0; r < b * h * n; ++r) {
    const int64_t ib = r / (h * n), ih = r / n % h, i = r % n;
    std::vector<double> s;
    std::vector<int64_t> keys;
    for (int64_t j = 0; j < m; ++j) {
      if (c.causal && j > i + m - n) continue;
      if (mask.defined() && at(mask, {ib, ih, i, j}) == 0) continue;
      double dot = 0;
      for (int64_t e = 0; e < d; ++e) dot += at(q, {ib, ih, i, e}) * at(k, {ib, ih / group, j, e});
      dot *= c.scale.value_or(1 / std::sqrt(double(d)));
      if (bias.defined()) dot += at(bias, {ib, ih, i, j});
      s.push_back(dot), keys.push_back(j);
    }
    double total = 0, top = -INFINITY;
    for (double w : s) top = std::max(top, w);
    for (double w : s) total += std::exp(w - top);
    if (!s.empty()) lse[size_t(r)] = top + std::log(total);
    for (size_t t = 0; t < s.size(); ++t) {
      const double w = c.fn == AttentionFn::softmax ? std::exp(s[t] - top) / total : weight(c.fn, s[t]);
      for (int64_t e = 0; e < dv; ++e) out[size_t(r * dv + e)] += w * at(v, {ib, ih / group, keys[t], e});
    }
  }
  Shape shape = x[0].shape(), rows(shape.begin(), shape.end() - 1);
  shape.back() = dv;
  return {tensor(out, shape), tensor(lse, rows)};
}

void add(SampleList& l, const Case& c, bool with_lse = false) {
  Tensor mask;
  if (!c.mask.empty()) {
    Tensor keep = ge(values(c.mask, 9), -0.8);
    if (c.dead_row) {
      const Tensor row = ne(arange(c.mask[2]), 1).reshape({c.mask[2], 1});
      keep = logical_and(keep, row);
    }
    mask = keep;
  }
  Tensors inputs{values(c.q, 1), values(c.k, 2), values(c.v, 3)};
  if (!c.bias.empty()) inputs.push_back(values(c.bias, 4));
  l.samples.push_back({.op = with_lse ? "attention_with_lse" : "scaled_dot_product_attention",
                       .variant = c.variant,
                       .inputs = inputs,
                       .call = [=](const Tensors& x) -> Tensors {
                         const AttentionOptions o{.mask = mask.defined() ? mask.to(x[0].device()) : mask,
                                                  .bias = x.size() > 3 ? x[3] : Tensor(),
                                                  .causal = c.causal,
                                                  .scale = c.scale,
                                                  .fn = c.fn};
                         if (!with_lse) return {scaled_dot_product_attention(x[0], x[1], x[2], o)};
                         const auto [out, lse] = attention_with_lse(x[0], x[1], x[2], o);
                         return {out, lse};
                       },
                       .reference = [=](const Tensors& x) -> Tensors {
                         Tensors y = naive(c, x, mask, x.size() > 3 ? x[3] : Tensor());
                         if (!with_lse) y.pop_back();
                         return y;
                       }});
}

}  // namespace

void attention_samples(SampleList& l) {
  add(l, {.variant = "plain", .q = {2, 2, 5, 4}, .k = {2, 2, 7, 4}, .v = {2, 2, 7, 3}});
  add(l, {.variant = "without heads", .q = {2, 5, 4}, .k = {2, 7, 4}, .v = {2, 7, 3}});
  add(l, {.variant = "matrices", .q = {5, 4}, .k = {7, 4}, .v = {7, 3}});
  add(l, {.variant = "one of everything", .q = {1, 1, 1, 1}, .k = {1, 1, 1, 1}, .v = {1, 1, 1, 1}});
  add(l, {.variant = "no queries", .q = {1, 2, 0, 3}, .k = {1, 2, 4, 3}, .v = {1, 2, 4, 3}});
  add(l, {.variant = "no keys: 0", .q = {1, 2, 3, 3}, .k = {1, 2, 0, 3}, .v = {1, 2, 0, 2}});
  add(l, {.variant = "causal", .q = {1, 2, 6, 3}, .k = {1, 2, 6, 3}, .v = {1, 2, 6, 3}, .causal = true});
  add(l, {.variant = "causal, fewer queries", .q = {1, 2, 3, 3}, .k = {1, 2, 6, 3}, .v = {1, 2, 6, 3}, .causal = true});
  add(l, {.variant = "causal, more queries: the first see nothing",
          .q = {1, 1, 6, 3},
          .k = {1, 1, 3, 3},
          .v = {1, 1, 3, 2},
          .causal = true});
  add(l, {.variant = "mask of keys", .q = {2, 2, 4, 3}, .k = {2, 2, 6, 3}, .v = {2, 2, 6, 3}, .mask = {2, 1, 1, 6}});
  add(l, {.variant = "full mask with a dead row",
          .q = {1, 2, 4, 3},
          .k = {1, 2, 5, 3},
          .v = {1, 2, 5, 3},
          .mask = {1, 2, 4, 5},
          .dead_row = true});
  add(l, {.variant = "grouped heads, scale",
          .q = {2, 4, 3, 3},
          .k = {2, 2, 5, 3},
          .v = {2, 2, 5, 2},
          .causal = true,
          .scale = 0.7});
  add(l, {.variant = "bias shared by the batch",
          .q = {2, 2, 4, 3},
          .k = {2, 2, 5, 3},
          .v = {2, 2, 5, 3},
          .bias = {2, 4, 5}});
  add(l, {.variant = "bias of its own for each head",
          .q = {2, 2, 4, 3},
          .k = {2, 2, 5, 3},
          .v = {2, 2, 5, 3},
          .bias = {2, 2, 4, 5},
          .causal = true});
  add(l, {.variant = "bias of keys",
          .q = {2, 2, 4, 3},
          .k = {2, 2, 5, 3},
          .v = {2, 2, 5, 3},
          .mask = {2, 1, 1, 5},
          .bias = {2, 1, 1, 5}});
  add(l, {.variant = "bias of queries", .q = {1, 2, 4, 3}, .k = {1, 2, 5, 3}, .v = {1, 2, 5, 3}, .bias = {2, 4, 1}});
  add(l, {.variant = "relu squared with bias and mask",
          .q = {2, 5, 3},
          .k = {2, 6, 3},
          .v = {2, 6, 4},
          .mask = {2, 1, 1, 6},
          .bias = {5, 6},
          .fn = AttentionFn::relu_squared,
          .scale = 0.3});
  add(l, {.variant = "laplace, causal",
          .q = {2, 6, 3},
          .k = {2, 6, 3},
          .v = {2, 6, 4},
          .bias = {6, 6},
          .causal = true,
          .fn = AttentionFn::laplace,
          .scale = 0.2});
  add(l, {.variant = "several tiles",
          .q = {1, 1, 133, 2},
          .k = {1, 1, 261, 2},
          .v = {1, 1, 261, 1},
          .bias = {133, 261},
          .causal = true});
  add(l, {.variant = "plain", .q = {2, 2, 5, 4}, .k = {2, 2, 7, 4}, .v = {2, 2, 7, 3}}, true);
  add(l,
      {.variant = "causal with a mask",
       .q = {1, 2, 4, 3},
       .k = {1, 1, 6, 3},
       .v = {1, 1, 6, 3},
       .mask = {1, 1, 4, 6},
       .causal = true},
      true);

  const Tensor x = zeros({1, 2, 3, 4});
  l.errors.push_back(
      {"scaled_dot_product_attention",
       [x] {
         scaled_dot_product_attention(x, zeros({1, 2, 3, 5}), x);
       },
       "scaled_dot_product_attention: shapes do not fit: q [1, 2, 3, 4], k [1, 2, 3, 5], v [1, 2, 3, 4]"});
  l.errors.push_back(
      {"scaled_dot_product_attention",
       [x] {
         scaled_dot_product_attention(x, x, x, {.mask = zeros({3, 3})});
       },
       "scaled_dot_product_attention: the mask must be bool (true = attend), got float32; an additive one is a bias"});
  l.errors.push_back({"scaled_dot_product_attention",
                      [x] {
                        scaled_dot_product_attention(x, x, x, {.bias = zeros({3, 2})});
                      },
                      "scaled_dot_product_attention: bias [1, 1, 3, 2] does not broadcast to [1, 2, 3, 3]"});
  l.errors.push_back({"attention_with_lse", [x] { attention_with_lse(x, x, x, {.fn = AttentionFn::laplace}); },
                      "attention_with_lse: only softmax has a log-sum-exp"});
}

}  // namespace weft::test
