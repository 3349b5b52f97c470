#include <weft/nn/xt/dropout_tokens.h>
#include <weft/nn/xt/places.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/random.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>
#include <weft/ops/sort.h>

#include <cmath>

namespace weft::xt {

void drop_tokens(Tensor& sequence, Tensor& mask, double dropout) {
  if (dropout <= 0) return;
  check(dropout < 1, "drop_tokens: dropout must be below 1, got ", dropout);
  const int64_t b = sequence.size(0), n = sequence.size(1);
  const auto keep = std::max<int64_t>(1, static_cast<int64_t>((1 - dropout) * static_cast<double>(n)));
  Tensor draws = rand({b, n}, {.device = sequence.device()});
  if (mask.defined()) draws = masked_fill(draws, logical_not(mask), -1);
  const Tensor kept = topk(draws, keep, 1).indices;  // [b, keep], real tokens first
  sequence = take_along_dim(sequence, expand(unsqueeze(kept, -1), {b, keep, sequence.size(2)}), 1);
  if (!mask.defined()) return;
  const Tensor share = ceil(sum(mask, 1, keepdim).to(float32) * (1 - dropout));
  mask = logical_and(gather(mask, 1, kept), lt(places(0, keep, mask.device()), share));
}

}  // namespace weft::xt
