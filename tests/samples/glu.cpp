#include "support/sample.h"

#include <cmath>

namespace weft::test {

namespace {

struct Unit {
  const char* op;
  Tensor (*call)(const Tensor&, int64_t);
  double (*gate)(double);
};

const Unit units[] = {{"glu", glu, [](double g) { return 1 / (1 + std::exp(-g)); }},
                      {"geglu", geglu, [](double g) { return g / 2 * std::erfc(-g * M_SQRT1_2); }},
                      {"swiglu", swiglu, [](double g) { return g / (1 + std::exp(-g)); }},
                      {"reglu", reglu, [](double g) { return std::max(g, 0.0); }}};

// Places 0 ... n-1 of dim times f of the places n ... 2n-1.
Tensor gated(const Unit& u, const Tensor& x, int64_t dim) {
  Shape shape = x.shape();
  const int64_t n = shape[dim] /= 2;
  return make_at(shape, [&](Index i) {
    const double value = at(x, i);
    i[static_cast<size_t>(dim)] += n;
    return value * u.gate(at(x, i));
  });
}

}  // namespace

void glu_samples(SampleList& l) {
  for (const Unit& u : units) {
    auto add = [&](const char* variant, const Tensor& x, int64_t dim) {
      const int64_t at = dim < 0 ? dim + x.dim() : dim;
      l.samples.push_back({.op = u.op,
                           .variant = variant,
                           .inputs = {x},
                           .call = [u, dim](const Tensors& x) -> Tensors { return {u.call(x[0], dim)}; },
                           .reference = [u, at](const Tensors& x) -> Tensors { return {gated(u, x[0], at)}; }});
    };
    add("last dim", values({3, 4, 10}, 1), -1);
    add("wide enough for whole packs", values({3, 2, 48}, 2), -1);
    add("first dim", values({6, 5}, 3), 0);
    add("nothing", values({3, 0}, 4), 1);
    l.errors.push_back({u.op,
                        [u] {
                          u.call(zeros({2, 3}), -1);
                        },
                        concat(u.op, ": expected an even size in dim 1 of [2, 3]")});
    l.errors.push_back({u.op, [u] { u.call(zeros({2}, {.dtype = int64}), -1); },
                        concat(u.op, ": expected a floating tensor, got int64")});
  }
}

}  // namespace weft::test
