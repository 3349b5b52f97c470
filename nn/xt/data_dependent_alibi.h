// Forget gates: a bias on attention scores that depends on what lies between query and key.
#pragma once

#include <weft/nn/linear.h>
#include <weft/nn/xt/options.h>
#include <weft/nn/xt/sublayer.h>

namespace weft::xt {

/// bias(x, n, args): [b, h, n, m], for the last n tokens of x [b, l, dim] among m keys (those in args.cache, then x).
/// The Forgetting Transformer, https://openreview.net/forum?id=q2Lnyegkr8
class ForgetGates : public Module {
 public:
  virtual Tensor bias(const Tensor& x, int64_t n, const SublayerArguments& args) const = 0;
};

/// The sum of log sigmoid(gate) over the tokens after the key up to the query (and for keys ahead of it, by gates of
/// their own, those in between).
class DataDependentAlibi : public ForgetGates {
 public:
  DataDependentAlibi(int64_t dim, int64_t heads, bool causal = true, const DataDependentAlibiKwargs& options = {});
  Tensor bias(const Tensor& x, int64_t n, const SublayerArguments& args) const override;
  std::string name() const override { return "DataDependentAlibi"; }

 private:
  int64_t heads_;
  bool causal_;
  double post_log_scale_;
  std::shared_ptr<Linear> gates_;
};

/// The same with gates that the query has a say in: log sigmoid(q·k / √dim_head), summed over the tokens from the key
/// on to just before the query.
class PerRowDataDependentAlibi : public ForgetGates {
 public:
  PerRowDataDependentAlibi(int64_t dim, int64_t heads, int64_t dim_head = 8, double post_log_scale = 1);
  Tensor bias(const Tensor& x, int64_t n, const SublayerArguments& args) const override;
  std::string name() const override { return "PerRowDataDependentAlibi"; }

 private:
  int64_t heads_, dim_head_;
  double post_log_scale_;
  std::shared_ptr<Linear> qk_;
};

}  // namespace weft::xt
