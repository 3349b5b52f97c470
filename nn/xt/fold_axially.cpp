#include <weft/nn/xt/attention_layers.h>
#include <weft/nn/xt/fold_axially.h>
#include <weft/ops/shape.h>

namespace weft::xt {
namespace {

Tensor run(const Module& fn, const Tensor& x, const Tensor& mask) {
  if (!mask.defined()) return fn.forward(x);
  if (const auto* layers = dynamic_cast<const AttentionLayers*>(&fn)) return (*layers)(x, Call{.mask = mask});
  const auto* sublayer = dynamic_cast<const Sublayer*>(&fn);
  check(sublayer != nullptr, "FoldAxially: a ", fn.name(), " takes no mask");
  SublayerArguments args;
  args.mask = mask;
  return (*sublayer)(x, args, nullptr);
}

}  // namespace

FoldAxially::FoldAxially(int64_t axial_dim, std::shared_ptr<Module> fn) : axial_dim_(axial_dim), fn_(std::move(fn)) {
  check(axial_dim > 0, "FoldAxially: axial_dim must be positive, got ", axial_dim);
  check(fn_ != nullptr, "FoldAxially: no module given");
  register_module("fn", fn_);
}

Tensor FoldAxially::operator()(const Tensor& x, const Tensor& mask) const {
  if (axial_dim_ == 1) return run(*fn_, x, mask);
  const int64_t n = x.size(1), missing = (axial_dim_ - n % axial_dim_) % axial_dim_;
  const auto fold = [&](const Tensor& t) {  // [b, n, ...] → [b · axial_dim, rounds, ...]
    std::vector<int64_t> amounts(static_cast<size_t>(2 * (t.dim() - 1)), 0);
    amounts.back() = missing;
    return flatten(transpose(unflatten(pad(t, amounts), 1, {-1, axial_dim_}), 1, 2), 0, 1);
  };
  const Tensor y = run(*fn_, fold(x), mask.defined() ? fold(mask) : mask);
  check(y.dim() == 3, "FoldAxially: expected [batch, length, features] from a ", fn_->name(), ", got ", y.shape());
  return slice(flatten(transpose(unflatten(y, 0, {-1, axial_dim_}), 1, 2), 1, 2), 1, 0, n);
}

}  // namespace weft::xt
