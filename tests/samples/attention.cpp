#include "support/sample.h"

#include <weft/ops/attention.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

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
  std::optional<int64_t> left = {}, right = {};
  bool alibi = false;
  std::vector<int64_t> lengths = {};  // of each sequence's keys; one: of all
};

// What a query of head h gives up a step of distance.
double slope(const Case& c, int64_t h) { return c.alibi ? 0.3 / static_cast<double>(h + 1) : 0; }

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
    const int64_t length = c.lengths.empty() ? m : std::min(c.lengths[c.lengths.size() > 1 ? size_t(ib) : 0], m);
    for (int64_t j = 0; j < length; ++j) {
      const int64_t distance = i + length - n - j;
      if (c.causal && distance < 0) continue;
      if (distance > c.left.value_or(distance) || -distance > c.right.value_or(-distance)) continue;
      if (mask.defined() && at(mask, {ib, ih, i, j}) == 0) continue;
      double dot = 0;
      for (int64_t e = 0; e < d; ++e) dot += at(q, {ib, ih, i, e}) * at(k, {ib, ih / group, j, e});
      dot *= c.scale.value_or(1 / std::sqrt(double(d)));
      if (bias.defined()) dot += at(bias, {ib, ih, i, j});
      dot -= slope(c, ih) * static_cast<double>(std::abs(distance));
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
  Tensor slopes, lengths;
  if (c.alibi) slopes = make({c.q[1]}, [&](int64_t h) { return slope(c, h); });
  if (!c.lengths.empty()) lengths = tensor(c.lengths, c.lengths.size() > 1 ? Shape{c.q[0]} : Shape{});
  Tensors inputs{values(c.q, 1), values(c.k, 2), values(c.v, 3)};
  if (!c.bias.empty()) inputs.push_back(values(c.bias, 4));
  l.samples.push_back({.op = with_lse ? "attention_with_lse" : "scaled_dot_product_attention",
                       .variant = c.variant,
                       .inputs = inputs,
                       .call = [=](const Tensors& x) -> Tensors {
                         auto there = [&](const Tensor& t) { return t.defined() ? t.to(x[0].device()) : t; };
                         const AttentionOptions o{.mask = there(mask),
                                                  .bias = x.size() > 3 ? x[3] : Tensor(),
                                                  .causal = c.causal,
                                                  .window_left = c.left,
                                                  .window_right = c.right,
                                                  .alibi_slopes = there(slopes),
                                                  .kv_length = there(lengths),
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

// Packed sequences, q: [rows, h, d], against naive on each.
void add_packed(SampleList& l, const Case& c, const std::vector<int64_t>& cu_q, const std::vector<int64_t>& cu_k) {
  const auto ends = static_cast<int64_t>(cu_q.size());
  const Tensor tq = tensor(cu_q, {ends}), tk = tensor(cu_k, {ends});
  Case one = c;  // naive counts heads in dimension 1
  one.q = {1, c.q[1], 1, 1};
  Tensor slopes;
  if (c.alibi) slopes = make({c.q[1]}, [&](int64_t h) { return slope(c, h); });
  l.samples.push_back(
      {.op = "attention_varlen",
       .variant = c.variant,
       .inputs = {values(c.q, 1), values(c.k, 2), values(c.v, 3)},
       .call = [=](const Tensors& x) -> Tensors {
         const Device device = x[0].device();
         const AttentionOptions o{
             .causal = c.causal, .window_left = c.left, .alibi_slopes = slopes.defined() ? slopes.to(device) : slopes};
         return {attention_varlen(x[0], x[1], x[2], tq.to(device), tk.to(device), 6, 6, o)};
       },
       .reference = [=](const Tensors& x) -> Tensors {
         std::vector<double> out;
         for (size_t s = 0; s + 1 < cu_q.size(); ++s) {
           auto part = [&](const Tensor& t, const std::vector<int64_t>& cu) {
             return t.slice(0, cu[s], cu[s + 1]).transpose(0, 1).unsqueeze(0).contiguous();
           };
           if (cu_q[s] == cu_q[s + 1]) continue;
           const Tensor y = naive(one, {part(x[0], cu_q), part(x[1], cu_k), part(x[2], cu_k)}, {}, {})[0];
           for (double v : y[0].transpose(0, 1).contiguous().to_vector<double>()) out.push_back(v);
         }
         return {tensor(out, {c.q[0], c.q[1], c.v[2]})};
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

  add(l, {.variant = "window", .q = {1, 2, 7, 3}, .k = {1, 2, 9, 3}, .v = {1, 2, 9, 2}, .left = 2, .right = 1});
  add(l, {.variant = "causal with a window, several tiles",
          .q = {1, 1, 140, 2},
          .k = {1, 1, 300, 2},
          .v = {1, 1, 300, 1},
          .causal = true,
          .left = 20});
  add(l, {.variant = "window that some queries have left",
          .q = {1, 1, 6, 3},
          .k = {1, 1, 3, 3},
          .v = {1, 1, 3, 2},
          .bias = {6, 3},
          .right = 0});
  add(l, {.variant = "ALiBi, causal",
          .q = {2, 2, 4, 3},
          .k = {2, 1, 6, 3},
          .v = {2, 1, 6, 3},
          .causal = true,
          .alibi = true});
  add(l, {.variant = "lengths of keys",
          .q = {3, 2, 2, 3},
          .k = {3, 2, 6, 3},
          .v = {3, 2, 6, 2},
          .causal = true,
          .lengths = {4, 0, 9}});
  add(l, {.variant = "one length, with mask, bias and slopes",
          .q = {2, 2, 4, 3},
          .k = {2, 2, 6, 3},
          .v = {2, 2, 6, 3},
          .mask = {2, 1, 1, 6},
          .bias = {2, 4, 6},
          .left = 3,
          .alibi = true,
          .lengths = {5}});
  add(l, {.variant = "lengths", .q = {2, 1, 3, 3}, .k = {2, 1, 5, 3}, .v = {2, 1, 5, 3}, .lengths = {2, 5}}, true);
  add_packed(l, {.variant = "packed", .q = {9, 2, 3}, .k = {9, 1, 3}, .v = {9, 1, 2}, .causal = true}, {0, 4, 4, 9},
             {0, 4, 4, 9});
  add_packed(l,
             {.variant = "packed, other keys, window and slopes",
              .q = {6, 2, 3},
              .k = {11, 2, 3},
              .v = {11, 2, 3},
              .left = 4,
              .alibi = true},
             {0, 2, 5, 6}, {0, 5, 8, 11});

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
  l.errors.push_back({"scaled_dot_product_attention",
                      [x] { scaled_dot_product_attention(x, x, x, {.window_left = -1}); },
                      "scaled_dot_product_attention: window_left must be at least 0, got -1"});
  l.errors.push_back(
      {"scaled_dot_product_attention", [x] { scaled_dot_product_attention(x, x, x, {.alibi_slopes = zeros({3})}); },
       "scaled_dot_product_attention: alibi_slopes must be floating of shape [2] or [1, 2], got float32 [3]"});
  l.errors.push_back(
      {"scaled_dot_product_attention",
       [x] { scaled_dot_product_attention(x, x, x, {.alibi_slopes = zeros({2}).requires_grad_()}); },
       "scaled_dot_product_attention: alibi_slopes gets no gradient; slopes that are learned go into a bias"});
  l.errors.push_back({"scaled_dot_product_attention",
                      [x] { scaled_dot_product_attention(x, x, x, {.kv_length = zeros({1})}); },
                      "scaled_dot_product_attention: kv_length must be int64 or int32, got float32"});
  const Tensor rows = zeros({3, 2, 4}), cu = tensor(std::vector<int64_t>{0, 3}, {2});
  l.errors.push_back(
      {"attention_varlen", [=] { attention_varlen(rows, rows, rows, cu, tensor(std::vector<int64_t>{3}, {1}), 3, 3); },
       "attention_varlen: expected cu_seqlens_q and cu_seqlens_k of one shape [sequences + 1], got [2] and [1]"});
  l.errors.push_back({"attention_varlen",
                      [=] {
                        attention_varlen(rows, rows, rows, cu, cu, 3, 3, {.bias = zeros({3, 3})});
                      },
                      "attention_varlen: packed sequences take no mask, bias or kv_length"});
}

}  // namespace weft::test
