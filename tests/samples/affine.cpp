#include "support/sample.h"

namespace weft::test {

void affine_samples(SampleList& l) {
  auto add = [&](const char* variant, const Shape& shape, int64_t heads) {
    const int64_t d = shape.back();
    l.samples.push_back({.op = "affine_heads",
                         .variant = variant,
                         .inputs = {values(shape, 1), values({heads, d}, 2), values({heads, d}, 3)},
                         .call = [](const Tensors& x) -> Tensors { return {affine_heads(x[0], x[1], x[2])}; },
                         .reference = [=](const Tensors& x) -> Tensors {
                           Shape out = shape;
                           out.back() = heads, out.push_back(d);
                           return {make_at(out, [&](const Index& i) {
                             const int64_t head = i[i.size() - 2], feature = i.back();
                             Index in(i.begin(), i.end() - 2);
                             in.push_back(feature);
                             return at(x[0], in) * at(x[1], {head, feature}) + at(x[2], {head, feature});
                           })};
                         }});
  };
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
}

}  // namespace weft::test
