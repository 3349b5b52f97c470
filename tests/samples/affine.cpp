#include "support/sample.h"

#include <cmath>

namespace weft::test {

void affine_samples(SampleList& l) {
  auto add = [&](const char* variant, const Shape& shape, int64_t heads) {
    const int64_t d = shape.back();
    l.samples.push_back({.op = "affine_heads",
                         .variant = variant,
                         .inputs = {values(shape, 1), values({heads, d}, 2), values({heads, d}, 3)},
                         .call = [](const Tensors& x) { return affine_heads(x[0], x[1], x[2]); },
                         .reference =
                             [=](const Tensors& x) {
                               Tensors out;
                               for (int64_t head = 0; head < heads; ++head)
                                 out.push_back(make_at(shape, [&](const Index& i) {
                                   return at(x[0], i) * at(x[1], {head, i.back()}) + at(x[2], {head, i.back()});
                                 }));
                               return out;
                             }});
  };
  // A pair (p, q) of features of position n becomes (p·cos - q·sin, q·cos + p·sin).
  auto add_turned = [&](const char* variant, const Shape& shape, int64_t heads, int64_t pairs, bool learned = false) {
    const int64_t d = shape.back(), n = shape[shape.size() - 2];
    const Tensor angles = values({n, pairs}, 4);
    Tensors inputs{values(shape, 1), values({heads, d}, 2), values({heads, d}, 3)};
    if (learned) inputs.push_back(angles);
    l.samples.push_back({.op = "affine_heads",
                         .variant = variant,
                         .inputs = inputs,
                         .call =
                             [=](const Tensors& x) {
                               return affine_heads(x[0], x[1], x[2], learned ? x[3] : angles.to(x[0].device()));
                             },
                         .reference =
                             [=](const Tensors& x) {
                               Tensors out;
                               for (int64_t head = 0; head < heads; ++head)
                                 out.push_back(make_at(shape, [&](const Index& i) {
                                   const int64_t feature = i.back(), pair = feature / 2;
                                   const auto scaled = [&](int64_t f) {
                                     Index in = i;
                                     in.back() = f;
                                     return at(x[0], in) * at(x[1], {head, f}) + at(x[2], {head, f});
                                   };
                                   if (pair >= pairs) return scaled(feature);
                                   const double angle = at(learned ? x[3] : angles, {i[i.size() - 2], pair});
                                   const double p = scaled(2 * pair), q = scaled(2 * pair + 1);
                                   return feature % 2 == 0 ? p * std::cos(angle) - q * std::sin(angle)
                                                           : q * std::cos(angle) + p * std::sin(angle);
                                 }));
                               return out;
                             }});
  };
  add_turned("turned", {2, 3, 6}, 4, 2);
  add_turned("turned, an odd number of features", {5, 7}, 2, 3);
  add_turned("turned, whole packs, rows of several blocks", {2, 37, 80}, 4, 16);
  add_turned("turned by learned angles", {2, 3, 6}, 2, 2, true);
  add_turned("turned, more heads than are taken at a time", {3, 4, 8}, 6, 4);
  add("four heads", {2, 3, 5}, 4);
  add("a vector", {5}, 2);
  add("more features than a warp, rows of several blocks", {70, 40}, 3);
  add("more heads than are taken at a time", {3, 8}, 19);
  add("no rows", {0, 5}, 2);
  l.errors.push_back({"affine_heads",
                      [] {
                        affine_heads(zeros({2, 3}), zeros({4, 2}), zeros({4, 2}));
                      },
                      "affine_heads: weight [4, 2] and bias [4, 2] do not fit x [2, 3]"});
  l.errors.push_back({"affine_heads",
                      [] {
                        affine_heads(zeros({3}), zeros({4, 3}), zeros({4, 3}, {.dtype = int64}));
                      },
                      "affine_heads: expected floating tensors, got float32, float32 and int64"});
  l.errors.push_back({"affine_heads",
                      [] {
                        affine_heads(zeros({2, 3}), zeros({4, 3}), zeros({4, 3}), zeros({2, 2}));
                      },
                      "affine_heads: angles [2, 2] do not fit x [2, 3]"});
}

}  // namespace weft::test
