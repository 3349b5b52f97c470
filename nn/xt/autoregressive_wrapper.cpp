#include <weft/nn/xt/autoregressive_wrapper.h>
#include <weft/nn/xt/places.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/loss.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>
#include <weft/ops/sort.h>

namespace weft::xt {
namespace {

// Which tokens of [b, n] may be seen: all but a share of them; the first always.
Tensor forgetful_mask(int64_t b, int64_t n, double share, Device device) {
  const auto hidden = std::min(static_cast<int64_t>(static_cast<double>(n + 1) * share), n);
  Tensor draws = masked_fill(rand({b, n}, {.device = device}), eq(places(0, n, device), 0), -1);
  const Tensor indices = topk(draws, hidden, 1).indices;
  return scatter(ones({b, n}, {.dtype = boolean, .device = device}), 1, indices, 0);
}

Tensor first_n(const Tensor& mask, int64_t n) {
  return mask.defined() && mask.size(1) == n + 1 ? slice(mask, 1, 0, n) : mask;
}

}  // namespace

Fields fields(AutoregressiveWrapperConfig& c) {
  return {{"ignore_index", &c.ignore_index},
          {"pad_value", &c.pad_value},
          {"mask_prob", &c.mask_prob},
          {"add_attn_z_loss", &c.add_attn_z_loss}};
}

AutoregressiveWrapper::AutoregressiveWrapper(const AutoregressiveWrapperConfig& c) : config_(c) {
  check(c.net != nullptr, "AutoregressiveWrapper: no net given");
  check(c.mask_prob >= 0 && c.mask_prob < 1, "AutoregressiveWrapper: mask_prob must be in [0, 1), got ", c.mask_prob);
  register_module("net", c.net);
}

// All tokens but the last, as the net reads them.
Tensor AutoregressiveWrapper::input(const Tensor& x) const {
  check(x.dim() == 2 && x.size(1) >= 2, name(), ": expected tokens [batch, length] of length 2 or more, got ",
        x.shape());
  const Tensor seen = slice(x, 1, 0, -1);
  return masked_fill(seen, eq(seen, config_.ignore_index), config_.pad_value);
}

// The net's call: masks of all tokens but the last, some of them forgotten.
Call AutoregressiveWrapper::prepared(const Tensor& x, const Call& given) const {
  const int64_t b = x.size(0), n = x.size(1) - 1;
  Call call = given;
  call.mask = first_n(call.mask, n), call.self_attn_kv_mask = first_n(call.self_attn_kv_mask, n);
  call.return_attn_z_loss |= config_.add_attn_z_loss;
  if (config_.mask_prob > 0) {
    const Tensor may = forgetful_mask(b, n, config_.mask_prob, x.device());
    const Tensor seen = call.self_attn_kv_mask.defined() ? call.self_attn_kv_mask : call.mask;
    call.self_attn_kv_mask = seen.defined() ? logical_and(seen, may) : may;
  }
  return call;
}

Tensor AutoregressiveWrapper::operator()(const Tensor& x, const Call& given) const {
  const Tensor weight = config_.net->logits_weight();
  if (!weight.defined() || config_.add_attn_z_loss) return loss(x, given).loss;
  const Tensor tokens = input(x);
  Call call = prepared(x, given);
  call.return_embeddings = true;
  return linear_cross_entropy((*config_.net)(tokens, call), weight, slice(x, 1, 1).contiguous(),
                              {.ignore_index = config_.ignore_index});
}

AutoregressiveWrapper::Loss AutoregressiveWrapper::loss(const Tensor& x, const Call& given) const {
  const Tensor tokens = input(x);
  Loss result{{}, config_.net->run(tokens, prepared(x, given))};
  check(result.outputs.logits.size() == 1, name(), ": the net gives ", result.outputs.logits.size(), " sets of logits");
  const Tensor logits = flatten(result.outputs.logits[0], 0, 1), targets = flatten(slice(x, 1, 1));
  const CrossEntropyOptions options{.ignore_index = config_.ignore_index};
  result.loss =
      config_.net->output_is_log_prob() ? nll_loss(logits, targets, options) : cross_entropy(logits, targets, options);
  if (config_.add_attn_z_loss) result.loss = result.loss + result.outputs.attn_z_loss;
  return result;
}

}  // namespace weft::xt
