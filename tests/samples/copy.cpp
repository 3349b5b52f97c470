#include "support/sample.h"

#include <cmath>

namespace weft::test {

void copy_samples(SampleList& l) {
  // Through each narrower type: the reference rounds by hand to the type's number of significant bits.
  const auto round_to_bits = [](double v, int bits) {
    if (v == 0) return v;
    int e;
    const double m = std::frexp(v, &e);  // m in [0.5, 1)
    return std::ldexp(std::nearbyint(std::ldexp(m, bits)), e - bits);
  };
  const std::pair<DType, int> types[] = {{float64, 53}, {float32, 24}, {bfloat16, 8}, {float16, 11}};
  for (const auto& [type, bits] : types) {
    l.samples.push_back(
        {.op = "cast",
         .variant = concat("there and back through ", type),
         .inputs = {values({3, 7}, 1)},
         .call = [type = type](const Tensors& x) -> Tensors { return {cast(cast(x[0], type), x[0].dtype())}; },
         .reference = [bits = bits, round_to_bits](const Tensors& x) -> Tensors {
           return {map1(x[0], [&](double v) { return round_to_bits(v, bits); })};
         },
         // A rounding is a staircase: finite differences see steps, the gradient is declared as that of the identity.
         .order = type == float64 ? 2 : 0});
  }
  l.samples.push_back({.op = "cast",
                       .variant = "to integers, towards zero",
                       .inputs = {values({3, 7}, 1, -9, 9)},
                       .call = [](const Tensors& x) -> Tensors {
                         return {cast(x[0], int64), cast(x[0], int32)};
                       },
                       .reference = [](const Tensors& x) -> Tensors {
                         const Tensor t = map1(x[0], [](double v) { return std::trunc(v); }).to(int64);
                         return {t, t};
                       },
                       .order = 0});
  l.samples.push_back(
      {.op = "cast",
       .variant = "integers, bool and none",
       .inputs = {tensor(std::vector<int64_t>{0, 1, -2, 200}, {4}), values({0, 2}, 1)},
       .call = [](const Tensors& x) -> Tensors {
         return {cast(x[0], boolean), cast(x[1], int32)};
       },
       .reference = [](const Tensors&) -> Tensors {
         return {tensor(std::vector<bool>{false, true, true, true}, {4}), zeros({0, 2}, {.dtype = int32})};
       },
       .order = 0});
}

}  // namespace weft::test
