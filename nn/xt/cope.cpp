#include <weft/nn/xt/cope.h>
#include <weft/nn/xt/head_mixture.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/matmul.h>
#include <weft/ops/reduce.h>
#include <weft/ops/scan.h>
#include <weft/ops/shape.h>
#include <weft/ops/softmax.h>

namespace weft::xt {

CoPE::CoPE(const CoPEConfig& c) : config_(c) {
  check(c.max_pos > 0, "CoPE: max_pos must be positive, got ", c.max_pos);
  pos_emb = register_parameter("pos_emb", zeros({c.max_pos, c.dim}));
  if (c.talking_heads) mixture_ = register_module("talking_heads", std::make_shared<HeadMixture>(c.heads, false));
  if (c.soft_onehot) positions_ = register_buffer("positions", arange(c.max_pos));
}

Tensor CoPE::operator()(const Tensor& q, const Tensor& scores, const Tensor& hidden) const {
  Tensor gates = mixture_ ? mixture_->forward(masked_fill(scores, hidden, 0)) : scores;
  gates = masked_fill(sigmoid(gates), hidden, 0);
  const Tensor position = clamp_max(cumsum(gates, -1, {.reverse = true}), config_.max_pos - 1);
  const Tensor at_integers = matmul(q, transpose(pos_emb, 0, 1));  // [b, h, n, max_pos]
  if (config_.soft_onehot) {
    const Tensor distance = abs(unsqueeze(position, -1) - positions_.to(position.dtype()));  // [b, h, n, m, max_pos]
    return sum(softmax(neg(distance) / config_.soft_onehot_temp, -1) * unsqueeze(at_integers, -2), -1);
  }
  const Tensor below = floor(position.detach()), share = position - below;
  return gather(at_integers, -1, ceil(position.detach()).to(int64)) * share +
         gather(at_integers, -1, below.to(int64)) * (1 - share);
}

}  // namespace weft::xt
