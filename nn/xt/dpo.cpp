#include <weft/autograd/autograd.h>
#include <weft/nn/xt/dpo.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>
#include <weft/ops/softmax.h>

namespace weft::xt {
namespace {

// Mean log-probability of the counted tokens given those before: [b].
Tensor mean_log_prob(const TransformerWrapper& model, const Tensor& seq, const Tensor& counted) {
  const Tensor log_probs = log_softmax(model(slice(seq, 1, 0, -1)), -1);
  const Tensor own = squeeze(gather(log_probs, 2, unsqueeze(slice(seq, 1, 1), -1)), -1);  // [b, n - 1]
  return sum(where(counted, own, 0), -1) / clamp_min(sum(counted, -1).to(own.dtype()), 1e-5);
}

}  // namespace

DPO::DPO(const DPOConfig& c) : config_(c) {
  check(c.policy_model && c.ref_model, "DPO: policy_model and ref_model are needed");
  check(c.policy_model != c.ref_model, "DPO: ref_model must be a model of its own");
  c.ref_model->load_state_dict(c.policy_model->state_dict());
  c.ref_model->requires_grad_(false);
  register_module("policy_model", c.policy_model), register_module("ref_model", c.ref_model);
}

Tensor DPO::operator()(const Tensor& preferred, const Tensor& unpreferred, const Call& call) const {
  check(preferred.dim() == 2 && preferred.shape() == unpreferred.shape(), name(),
        ": expected two sequences of one shape [batch, length], got ", preferred.shape(), " and ", unpreferred.shape());
  const int64_t n = preferred.size(1) - 1;
  check(call.prompt_mask.defined(), name(), ": a prompt_mask is needed");
  for (const Tensor* mask : {&call.prompt_mask, &call.preferred_seq_mask, &call.unpreferred_seq_mask}) {
    if (!mask->defined()) continue;
    const int64_t b = preferred.size(0);
    check(mask->dtype() == boolean && (mask->shape() == Shape{b, n + 1} || mask->shape() == Shape{b, n}), name(),
          ": expected a bool mask ", Shape{b, n + 1}, " or ", Shape{b, n}, ", got ", mask->dtype(), " ", mask->shape());
  }
  const auto counted = [&](const Tensor& seq, const Tensor& given) {
    Tensor mask = logical_not(slice(call.prompt_mask, 1, 0, n));
    if (given.defined())
      mask = logical_and(mask, slice(given, 1, 0, n));
    else if (config_.pad_id)
      mask = logical_and(mask, slice(ne(seq, *config_.pad_id), 1, 0, n));
    return mask;
  };
  const Tensor good = counted(preferred, call.preferred_seq_mask),
               bad = counted(unpreferred, call.unpreferred_seq_mask);
  Tensor reference;
  {
    const NoGrad guard;
    reference =
        mean_log_prob(*config_.ref_model, preferred, good) - mean_log_prob(*config_.ref_model, unpreferred, bad);
  }
  const Tensor policy =
      mean_log_prob(*config_.policy_model, preferred, good) - mean_log_prob(*config_.policy_model, unpreferred, bad);
  return neg(mean(log_sigmoid((policy - reference) * config_.beta)));
}

}  // namespace weft::xt
