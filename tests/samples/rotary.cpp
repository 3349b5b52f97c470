#include "support/sample.h"

#include <cmath>

namespace weft::test {

namespace {

// inputs: x, angles, scale (may be missing). x: [..., n, ..., d] with n at seq_dim.
void add(SampleList& l, const char* variant, const Tensors& inputs, RotaryPairs pairs, int64_t seq_dim = -2) {
  l.samples.push_back(
      {.op = "rotary",
       .variant = variant,
       .inputs = inputs,
       .call = [=](const Tensors& x) -> Tensors {
         return {rotary(x[0], x[1], {.pairs = pairs, .seq_dim = seq_dim, .scale = x.size() > 2 ? x[2] : Tensor()})};
       },
       .reference = [=](const Tensors& x) -> Tensors {
         const int64_t count = x[1].size(-1), dims = x[0].dim();
         const bool halves = pairs == RotaryPairs::halves;
         return {make_at(x[0].shape(), [&](const Index& i) {
           const int64_t f = i.back();
           if (f >= 2 * count) return at(x[0], i);
           const int64_t k = halves ? f % count : f / 2;
           const bool second = halves ? f >= count : f % 2 == 1;
           Index other = i, place{i[static_cast<size_t>(dims + seq_dim)], k};
           other.back() = halves ? (second ? f - count : f + count) : (second ? f - 1 : f + 1);
           if (x[1].dim() == 3) place.insert(place.begin(), i[0]);
           const double angle = at(x[1], place), scale = x.size() > 2 ? at(x[2], place) : 1;
           return scale * (at(x[0], i) * std::cos(angle) + (second ? 1 : -1) * at(x[0], other) * std::sin(angle));
         })};
       }});
}

}  // namespace

void rotary_samples(SampleList& l) {
  using P = RotaryPairs;
  add(l, "neighbours", {values({2, 3, 4}, 1), values({3, 2}, 2)}, P::neighbours);
  add(l, "halves", {values({2, 3, 4}, 1), values({3, 2}, 2)}, P::halves);
  add(l, "a part of the features", {values({2, 3, 7}, 1), values({3, 2}, 2)}, P::neighbours);
  add(l, "a part of the features, halves", {values({2, 3, 7}, 1), values({3, 2}, 2)}, P::halves);
  add(l, "one row", {values({1, 2}, 1), values({1, 1}, 2)}, P::neighbours);
  add(l, "positions before the heads", {values({2, 3, 2, 4}, 1), values({3, 2}, 2)}, P::neighbours, -3);
  add(l, "angles of each batch", {values({2, 2, 3, 4}, 1), values({2, 3, 2}, 2)}, P::neighbours);
  add(l, "angles of each batch, positions before the heads", {values({2, 3, 2, 5}, 1), values({2, 3, 2}, 2)}, P::halves,
      -3);
  add(l, "scale", {values({2, 3, 6}, 1), values({3, 2}, 2), values({3, 2}, 3, 0.5, 2)}, P::neighbours);
  add(l, "scale of each batch", {values({2, 2, 3, 4}, 1), values({2, 3, 2}, 2), values({2, 3, 2}, 3, 0.5, 2)},
      P::halves);
  add(l, "packs", {values({2, 5, 48}, 1), values({5, 16}, 2)}, P::neighbours);
  add(l, "packs, halves", {values({2, 5, 48}, 1), values({5, 16}, 2)}, P::halves);
  add(l, "no rows", {values({0, 3, 4}, 1), values({3, 2}, 2)}, P::neighbours);

  const auto wrong = [&](const std::function<void()>& call, const char* message) {
    l.errors.push_back({"rotary", call, message});
  };
  const Tensor x = zeros({2, 3, 4});
  wrong([=] { rotary(x, zeros({4, 2})); }, "rotary: angles [4, 2] are of 4 positions, x [2, 3, 4] has 3");
  wrong([=] { rotary(x, zeros({3, 3})); }, "rotary: 3 pairs do not fit into 4 features");
  wrong([=] { rotary(x, zeros({3})); }, "rotary: expected angles [n, r / 2] or [b, n, r / 2], got [3]");
  wrong(
      [=] {
        rotary(x, zeros({3, 3, 2}));
      },
      "rotary: angles [3, 3, 2] do not share the first dimension of x [2, 3, 4]");
  wrong([=] { rotary(x, zeros({3, 2}), {.seq_dim = -1}); }, "rotary: seq_dim -1 does not fit [2, 3, 4]");
  wrong([=] { rotary(x, zeros({3, 2}), {.scale = ones({2})}); }, "rotary: expected a floating scale of shape [3, 2]");
  wrong([=] { rotary(x, arange(6).reshape({3, 2})); }, "rotary: expected floating tensors, got float32 and int64");
}

}  // namespace weft::test
