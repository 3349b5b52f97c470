#include <weft/autograd/autograd.h>
#include <weft/nn/container.h>
#include <weft/nn/eval_mode.h>
#include <weft/nn/xt/xval.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/loss.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

#include <limits>

namespace weft::xt {

Fields fields(XValTransformerWrapperConfig& c) {
  Fields f;
  WEFT_XT_XVAL_OPTIONS(WEFT_XT_FIELD, )
  return f;
}

XValTransformerWrapper::XValTransformerWrapper(const XValTransformerWrapperConfig& c) : config_(c) {
  check(c.attn_layers != nullptr, "XValTransformerWrapper: no attn_layers given");
  check(c.num_tokens > 0, "XValTransformerWrapper: num_tokens must be positive, got ", c.num_tokens);
  const int64_t dim = c.attn_layers->dim(), emb_dim = c.emb_dim.value_or(dim);
  check(!c.tie_embedding || emb_dim == dim, "XValTransformerWrapper: tie_embedding needs an emb_dim of dim ", dim);
  token_emb_ = register_module("token_emb", std::make_shared<TokenEmbedding>(emb_dim, c.num_tokens));
  init::normal_(token_emb_->emb.weight);
  pos_emb_ =
      make_position_embedding(emb_dim, {c.max_seq_len, c.use_abs_pos_emb, c.scaled_sinu_pos_emb}, *c.attn_layers);
  if (pos_emb_) register_module("pos_emb", pos_emb_);
  if (emb_dim != dim) project_emb_ = register_module("project_emb", std::make_shared<Linear>(emb_dim, dim));
  if (c.num_memory_tokens.value_or(0) > 0)
    memory_tokens_ = register_parameter("memory_tokens", randn({*c.num_memory_tokens, dim}));
  register_module("attn_layers", c.attn_layers);
  if (!c.tie_embedding)
    to_logits_ = register_module("to_logits", std::make_shared<Linear>(dim, c.logits_dim.value_or(c.num_tokens)));
  to_numerical_output_ = std::make_shared<Linear>(dim, 1);
  register_module("to_numerical_output", std::make_shared<Sequential>(to_numerical_output_));
}

XValTransformerWrapper::Output XValTransformerWrapper::operator()(const Tensor& tokens, const Tensor& numbers,
                                                                  const Call& given) const {
  check(tokens.dim() == 2 && tokens.shape() == numbers.shape(), name(),
        ": expected tokens and numbers [batch, length], got ", tokens.shape(), " and ", numbers.shape());
  check(!given.cache, name(), ": takes no cache");
  Call call = given;
  Tensor x = token_emb_->forward(tokens);
  x = x * unsqueeze(where(eq(tokens, config_.numerical_token_id), numbers.to(x.dtype()), 1), -1);
  const Tensor positions = position_embeddings(pos_emb_.get(), tokens.size(1), call, x.device());
  if (positions.defined()) x = x + positions;
  if (project_emb_) x = project_emb_->forward(x);
  start_to_mask(call, tokens.size(1), x.device());
  const int64_t memory = memory_tokens_.defined() ? memory_tokens_.size(0) : 0;
  if (memory > 0) put_in_front(repeated(memory_tokens_, x.size(0)), {}, x, call);
  const int64_t prepended = call.prepend_embeds.defined() ? call.prepend_embeds.size(1) : 0;
  if (prepended > 0) put_in_front(call.prepend_embeds, call.prepend_mask, x, call);
  x = dropout(x, config_.emb_dropout, is_training());
  call.pos = {};

  Output out;
  x = (*config_.attn_layers)(x, call, &out.intermediates);
  if (memory > 0) x = take_memory_out(x, prepended, memory, out.intermediates);
  out.embeddings = x;
  if (call.return_mems) out.mems = next_mems({}, out.intermediates.hiddens, config_.max_mem_len);
  if (call.return_embeddings) return out;
  out.logits = to_logits_ ? to_logits_->forward(x) : linear(x, token_emb_->emb.weight);
  out.numerical_pred = squeeze(to_numerical_output_->forward(x), -1);
  return out;
}

Fields fields(XValAutoregressiveWrapperConfig& c) {
  return {{"ignore_index", &c.ignore_index}, {"numerical_loss_weight", &c.numerical_loss_weight}};
}

XValAutoregressiveWrapper::XValAutoregressiveWrapper(const XValAutoregressiveWrapperConfig& c) : config_(c) {
  check(c.net != nullptr, "XValAutoregressiveWrapper: no net given");
  register_module("net", c.net);
}

XValAutoregressiveWrapper::Loss XValAutoregressiveWrapper::loss(const Tensor& x, const Tensor& x_num,
                                                                const Call& given) const {
  check(x.dim() == 2 && x.size(1) >= 2 && x.shape() == x_num.shape(), name(),
        ": expected tokens and numbers [batch, length] of length 2 or more, got ", x.shape(), " and ", x_num.shape());
  const int64_t n = x.size(1) - 1;
  Call call = given;
  if (call.mask.defined() && call.mask.size(1) == n + 1) call.mask = slice(call.mask, 1, 0, n);
  const Tensor target = slice(x, 1, 1);
  Tensor counted = ne(target, config_.ignore_index);
  if (call.mask.defined()) counted = logical_and(counted, call.mask);

  const auto out = (*config_.net)(slice(x, 1, 0, n), slice(x_num, 1, 0, n), call);
  Loss loss;
  loss.cross_entropy_loss = reshape(cross_entropy(flatten(out.logits, 0, 1), flatten(target),
                                                  {.ignore_index = config_.ignore_index, .reduction = Reduction::none}),
                                    target.shape());
  const Tensor is_number = logical_and(eq(target, config_.net->config().numerical_token_id), counted);
  const Tensor numbers = masked_fill(slice(x_num, 1, 1), logical_not(is_number), 0).to(out.numerical_pred.dtype());
  loss.numerical_mse_loss = where(is_number, square(out.numerical_pred - numbers), 0);
  const Tensor total = loss.cross_entropy_loss + loss.numerical_mse_loss * config_.numerical_loss_weight;
  loss.loss = sum(where(counted, total, 0)) / clamp_min(sum(counted), 1).to(total.dtype());
  return loss;
}

XValAutoregressiveWrapper::Generated XValAutoregressiveWrapper::generate(const Tensor& start_tokens,
                                                                         const Tensor& start_numbers, int64_t seq_len,
                                                                         const GenerateOptions& options) {
  check(start_tokens.dim() == 2 && start_tokens.size(1) > 0 && start_tokens.shape() == start_numbers.shape(),
        "generate: expected start tokens and numbers [batch, length > 0], got ", start_tokens.shape(), " and ",
        start_numbers.shape());
  const NoGrad guard;
  const EvalMode mode(*this);
  Generator& generator = options.generator ? *options.generator : default_generator();
  const int64_t t = start_tokens.size(1), limit = config_.net->config().max_seq_len;
  Tensor tokens = start_tokens, numbers = start_numbers;
  for (int64_t i = 0; i < seq_len; ++i) {
    const int64_t from = limit > 0 ? std::max<int64_t>(0, tokens.size(1) - limit) : 0;
    const auto out = (*config_.net)(slice(tokens, 1, from), slice(numbers, 1, from), options.call);
    const Tensor token = sample(select(out.logits, 1, -1), options.temperature, options.filter_logits_fn, generator);
    tokens = cat({tokens, token}, 1);
    numbers = cat({numbers, slice(out.numerical_pred, 1, -1).to(numbers.dtype())}, 1);
  }
  const Tensor made = slice(tokens, 1, t), is_number = eq(made, config_.net->config().numerical_token_id);
  return {made, where(is_number, slice(numbers, 1, t), std::numeric_limits<double>::quiet_NaN()), is_number};
}

}  // namespace weft::xt
