#include <weft/nn/container.h>
#include <weft/nn/init.h>
#include <weft/nn/xt/data_dependent_alibi.h>
#include <weft/nn/xt/places.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/matmul.h>
#include <weft/ops/scan.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft::xt {
namespace {

// of_queries[.., i] - of_keys[.., j]: [b, h, n, m]
Tensor differences(const Tensor& of_queries, const Tensor& of_keys) {
  return unsqueeze(of_queries, -1) - unsqueeze(of_keys, -2);
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

Tensor DataDependentAlibi::bias(const Tensor& x, int64_t n, const SublayerArguments& args) const {
  Tensor sums = cumsum(log_sigmoid(transpose(gates_->forward(x), 1, 2)) * post_log_scale_, -1);  // [b, h or 2h, l]
  if (args.cache) {
    Growing& kept = args.cache->forget_gates;
    if (kept.size() > 0) sums = sums + kept.last();
    kept.append(sums, 2, args.cache->capacity);
  }
  const Tensor all = args.cache ? args.cache->forget_gates.get() : sums, own = slice(sums, -1, sums.size(-1) - n);
  if (causal_) return differences(own, all);
  const auto of = [&](int64_t from, int64_t to) {
    return differences(slice(own, 1, from, to), slice(all, 1, from, to));
  };
  const int64_t m = all.size(-1);
  const Tensor i = query_places(args.places, n, m, x.device()), j = places(0, m, x.device());
  return where(le(j, i), of(0, heads_), neg(of(heads_, 2 * heads_)));
}

PerRowDataDependentAlibi::PerRowDataDependentAlibi(int64_t dim, int64_t heads, int64_t dim_head, double post_log_scale)
    : heads_(heads),
      dim_head_(dim_head),
      post_log_scale_(post_log_scale),
      qk_(std::make_shared<Linear>(dim, heads * dim_head * 2, false)) {
  register_module("to_forget_gates", std::make_shared<Sequential>(qk_));
}

Tensor PerRowDataDependentAlibi::bias(const Tensor& x, int64_t n, const SublayerArguments& args) const {
  const Tensor qk = unflatten(qk_->forward(x), -1, {2, heads_, dim_head_}).permute({2, 0, 3, 1, 4});  // [2, b, h, l, d]
  const Tensor q = slice(select(qk, 0, 0), -2, x.size(1) - n);
  Tensor k = select(qk, 0, 1);
  if (args.cache) args.cache->forget_keys.append(k, 2, args.cache->capacity), k = args.cache->forget_keys.get();
  const int64_t m = k.size(-2);
  const Tensor scores = matmul(q, transpose(k, -1, -2)) * (1 / std::sqrt(static_cast<double>(dim_head_)));
  const Tensor before = lt(places(0, m, x.device()), query_places(args.places, n, m, x.device()));
  const Tensor gates = where(before, log_sigmoid(scores) * post_log_scale_, 0);
  return cumsum(gates, -1, {.reverse = true});
}

}  // namespace weft::xt
