#include "support/sample.h"

#include <weft/ops/optim.h>

namespace weft::test {

void optim_samples(SampleList& l) {
  for (const bool with_empty : {false, true}) {
    l.samples.push_back({.op = "sum_squares",
                         .variant = with_empty ? "an empty tensor among them" : "several tensors",
                         .inputs = {values({3, 5}, 1), values(with_empty ? Shape{0} : Shape{}, 2), values({70001}, 3)},
                         .call = [](const Tensors& x) -> Tensors { return {sum_squares(x)}; },
                         .reference = [](const Tensors& x) -> Tensors {
                           double s = 0;
                           for (const Tensor& t : x) {
                             for (double v : t.to_vector<double>()) s += v * v;
                           }
                           return {make({}, [s](int64_t) { return s; })};
                         },
                         .order = 0});
  }
}

}  // namespace weft::test
