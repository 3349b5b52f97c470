#include <weft/nn/container.h>
#include <weft/nn/init.h>
#include <weft/nn/xt/data_dependent_alibi.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/matmul.h>
#include <weft/ops/scan.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft::xt {
namespace {

// sums[.., query] - sums[.., key] for the last n of m places: [b, h, n, m]
Tensor differences(const Tensor& sums, int64_t n) {
  return unsqueeze(slice(sums, -1, sums.size(-1) - n), -1) - unsqueeze(sums, -2);
}

}  // namespace

DataDependentAlibi::DataDependentAlibi(int64_t dim, int64_t heads, bool causal, const DataDependentAlibiKwargs& options)
    : heads_(heads),
      causal_(causal),
      post_log_scale_(options.post_log_scale),
      gates_(std::make_shared<Linear>(dim, heads * (causal ? 1 : 2))) {
  register_module("to_forget_gates", std::make_shared<Sequential>(gates_));
  init::constant_(gates_->bias, options.bias_init);
}

Tensor DataDependentAlibi::bias(const Tensor& x, int64_t n, LayerCache* cache) const {
  Tensor sums = cumsum(log_sigmoid(transpose(gates_->forward(x), 1, 2)) * post_log_scale_, -1);  // [b, h or 2h, l]
  if (cache) {
    const Tensor before = cache->forget_gates.get();
    if (before.defined()) sums = sums + slice(before, -1, before.size(-1) - 1);
    cache->forget_gates.append(sums, 2, cache->capacity);
    sums = cache->forget_gates.get();
  }
  if (causal_) return differences(sums, n);
  return tril(differences(slice(sums, 1, 0, heads_), n)) + triu(neg(differences(slice(sums, 1, heads_), n)));
}

PerRowDataDependentAlibi::PerRowDataDependentAlibi(int64_t dim, int64_t heads, int64_t dim_head, double post_log_scale)
    : heads_(heads),
      dim_head_(dim_head),
      post_log_scale_(post_log_scale),
      qk_(std::make_shared<Linear>(dim, heads * dim_head * 2, false)) {
  register_module("to_forget_gates", std::make_shared<Sequential>(qk_));
}

Tensor PerRowDataDependentAlibi::bias(const Tensor& x, int64_t n, LayerCache* cache) const {
  const Tensor qk = unflatten(qk_->forward(x), -1, {2, heads_, dim_head_}).permute({2, 0, 3, 1, 4});  // [2, b, h, l, d]
  const Tensor q = slice(select(qk, 0, 0), -2, x.size(1) - n);
  Tensor k = select(qk, 0, 1);
  if (cache) cache->forget_keys.append(k, 2, cache->capacity), k = cache->forget_keys.get();
  const int64_t m = k.size(-2);
  const Tensor scores = matmul(q, transpose(k, -1, -2)) * (1 / std::sqrt(static_cast<double>(dim_head_)));
  const Tensor gates = tril(log_sigmoid(scores) * post_log_scale_, m - n - 1);  // keys before the query
  return cumsum(gates, -1, {.reverse = true});
}

}  // namespace weft::xt
