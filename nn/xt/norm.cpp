#include <weft/nn/init.h>
#include <weft/nn/xt/norm.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/norm.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft::xt {
namespace {

double root(int64_t dim) { return std::sqrt(static_cast<double>(dim)); }

}  // namespace

LayerNorm::LayerNorm(int64_t dim, bool unit_offset) : unit_offset_(unit_offset) {
  gamma = register_parameter("gamma", full({dim}, unit_offset ? 0.0 : 1.0));
}
Tensor LayerNorm::operator()(const Tensor& x, const Tensor&) const {
  return layer_norm(x, gamma.shape(), gamma, {}, 1e-5, unit_offset_ ? 1 : 0);
}

std::pair<Tensor, Tensor> LayerNorm::add(const Tensor& x, const Tensor& residual) const {
  return add_layer_norm(x, residual, gamma.shape(), gamma, {}, 1e-5, unit_offset_ ? 1 : 0);
}

RMSNorm::RMSNorm(int64_t dim, int64_t scales, bool unit_offset) : scale_(root(dim)), unit_offset_(unit_offset) {
  g = register_parameter("g", full({scales}, unit_offset ? 0.0 : 1.0));
}
Tensor RMSNorm::operator()(const Tensor& x, const Tensor&) const {
  return normalize(x) * ((unit_offset_ ? g + 1 : g) * scale_);
}

SimpleRMSNorm::SimpleRMSNorm(int64_t dim) : scale_(root(dim)) {}
Tensor SimpleRMSNorm::operator()(const Tensor& x, const Tensor&) const { return normalize(x) * scale_; }

AdaptiveNorm::AdaptiveNorm(int64_t dim, int64_t dim_condition, bool centred)
    : centred_(centred), scale_(root(dim)), to_gamma_(dim_condition, dim, false) {
  register_module("to_gamma", to_gamma_);
  init::zeros_(to_gamma_.weight);
}
Tensor AdaptiveNorm::operator()(const Tensor& x, const Tensor& condition) const {
  check(condition.defined(), name(), ": needs a condition");
  const Tensor normed = centred_ ? layer_norm(x, {x.size(-1)}) : normalize(x) * scale_;
  return normed * (to_gamma_(condition_rows(condition, to_gamma_.weight.size(1), "AdaptiveNorm")) + 1);
}

MultiheadRMSNorm::MultiheadRMSNorm(int64_t dim, int64_t heads) : scale_(root(dim)) {
  gamma = register_parameter("gamma", zeros({heads, 1, dim}));
}
Tensor MultiheadRMSNorm::operator()(const Tensor& x, const Tensor&) const {
  return normalize(x) * scale_ * (gamma + 1);
}

Tensor condition_rows(const Tensor& condition, int64_t dim, const char* owner) {
  check((condition.dim() == 2 || condition.dim() == 3) && condition.size(-1) == dim, owner,
        ": expected a condition [batch, ", dim, "] or [batch, length, ", dim, "], got ", condition.shape());
  return condition.dim() == 2 ? unsqueeze(condition, 1) : condition;
}

}  // namespace weft::xt
