#include <weft/autograd/autograd.h>
#include <weft/nn/eval_mode.h>
#include <weft/nn/xt/continuous.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/loss.h>
#include <weft/ops/random.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

namespace weft::xt {

Fields fields(ContinuousTransformerWrapperConfig& c) {
  Fields f;
  WEFT_XT_CONTINUOUS_OPTIONS(WEFT_XT_FIELD, )
  return f;
}

ContinuousTransformerWrapper::ContinuousTransformerWrapper(const ContinuousTransformerWrapperConfig& c) : config_(c) {
  check(c.attn_layers != nullptr, "ContinuousTransformerWrapper: no attn_layers given");
  const int64_t dim = c.attn_layers->dim();
  pos_emb_ = make_position_embedding(dim, {c.max_seq_len, c.use_abs_pos_emb, c.scaled_sinu_pos_emb}, *c.attn_layers);
  if (pos_emb_) register_module("pos_emb", pos_emb_);
  if (c.post_emb_norm) post_emb_norm_ = register_module("post_emb_norm", std::make_shared<LayerNorm>(dim));
  if (c.num_memory_tokens.value_or(0) > 0)
    memory_tokens_ = register_parameter("memory_tokens", randn({*c.num_memory_tokens, dim}));
  register_module("attn_layers", c.attn_layers);
  if (c.dim_in) project_in_ = register_module("project_in", std::make_shared<Linear>(*c.dim_in, dim, false));
  if (c.dim_out) project_out_ = register_module("project_out", std::make_shared<Linear>(dim, *c.dim_out, false));
}

ContinuousTransformerWrapper::Output ContinuousTransformerWrapper::run(const Tensor& given,
                                                                       const Call& arguments) const {
  check(given.dim() == 3, name(), ": expected x [batch, length, features], got ", given.shape());
  Call call = arguments;
  const int64_t b = given.size(0), n = given.size(1);
  Tensor x = project_in_ ? project_in_->forward(given) : given;
  const Tensor positions = position_embeddings(pos_emb_.get(), n, call, x.device());
  if (positions.defined()) x = x + positions;
  if (post_emb_norm_) x = post_emb_norm_->forward(x);
  start_to_mask(call, n, x.device());
  const Tensor own_mask = call.mask;
  const bool first = !call.cache || call.cache->length() == 0;
  int64_t memory = 0, prepended = 0;
  if (memory_tokens_.defined() && first) {
    memory = memory_tokens_.size(0);
    put_in_front(repeated(memory_tokens_, b), {}, x, call);
  }
  if (call.prepend_embeds.defined()) {
    prepended = call.prepend_embeds.size(1);
    put_in_front(call.prepend_embeds, call.prepend_mask, x, call);
  }
  x = dropout(x, config_.emb_dropout, is_training());
  call.pos = {};

  Output out;
  x = (*config_.attn_layers)(x, call, &out.intermediates);
  if (call.cache && !call.cache->fixed()) call.cache->tokens += n;
  if (memory > 0) x = take_memory_out(x, prepended, memory, out.intermediates);
  if (config_.average_pool_embed) x = masked_mean(prepended > 0 ? slice(x, 1, prepended) : x, own_mask);
  if (call.return_mems) out.mems = next_mems({}, out.intermediates.hiddens, config_.max_mem_len);
  out.out = project_out_ && !call.return_embeddings ? project_out_->forward(x) : x;
  return out;
}

Fields fields(ContinuousAutoregressiveWrapperConfig& c) {
  return {{"equal_loss_weight_batch", &c.equal_loss_weight_batch}};
}

ContinuousAutoregressiveWrapper::ContinuousAutoregressiveWrapper(const ContinuousAutoregressiveWrapperConfig& c)
    : config_(c) {
  check(c.net != nullptr, "ContinuousAutoregressiveWrapper: no net given");
  register_module("net", c.net);
}

Tensor ContinuousAutoregressiveWrapper::operator()(const Tensor& x, const Call& given) const {
  check(x.dim() == 3 && x.size(1) >= 2, name(), ": expected [batch, length, features] of length 2 or more, got ",
        x.shape());
  check(!given.prepend_embeds.defined(), name(), ": takes no prepend_embeds");
  Call call = given;
  if (call.mask.defined() && call.mask.size(1) == x.size(1)) call.mask = slice(call.mask, 1, 0, -1);
  const Tensor predicted = (*config_.net)(slice(x, 1, 0, -1), call), target = slice(x, 1, 1);
  const Tensor loss =
      config_.loss_fn ? config_.loss_fn(predicted, target) : mse_loss(predicted, target, Reduction::none);
  if (!call.mask.defined()) return mean(loss);
  check(loss.dim() == 3, name(), ": with a mask the loss must not be reduced, got ", loss.shape());
  const Tensor counted = where(unsqueeze(call.mask, -1), loss, 0);
  if (config_.equal_loss_weight_batch)
    return mean(sum(counted, {1, 2}) / clamp_min(sum(call.mask, 1), 1).to(loss.dtype()));
  return sum(counted) / (sum(call.mask).to(loss.dtype()) * static_cast<double>(loss.size(2)));
}

Tensor ContinuousAutoregressiveWrapper::generate(const Tensor& given, int64_t seq_len, const Call& call) {
  check((given.dim() == 2 || given.dim() == 3) && given.size(-2) > 0 && seq_len >= 0,
        "generate: expected start vectors [batch, length > 0, features] and seq_len >= 0, got ", given.shape(), " and ",
        seq_len);
  const NoGrad guard;
  const EvalMode mode(*this);
  Tensor all = given.dim() == 2 ? unsqueeze(given, 0) : given;
  const int64_t t = all.size(1), limit = config_.net->max_seq_len();
  // The cache holds as long as the window has not begun to move.
  std::optional<Cache> cache;
  if (config_.net->config().attn_layers->can_cache_kv()) cache.emplace(t + seq_len);
  for (int64_t i = 0; i < seq_len; ++i) {
    const int64_t n = all.size(1), from = limit > 0 ? std::max<int64_t>(0, n - limit) : 0;
    if (from > 0) cache.reset();
    Call step = call;
    if (cache) {
      step.cache = &*cache;
      if (cache->tokens > 0) step.prepend_embeds = step.prepend_mask = step.mask = {}, step.mems.clear();
    }
    const Tensor next = slice((*config_.net)(slice(all, 1, cache ? cache->tokens : from), step), 1, -1);
    all = cat({all, next}, 1);
  }
  const Tensor made = slice(all, 1, t);
  return given.dim() == 2 ? squeeze(made, 0) : made;
}

}  // namespace weft::xt
