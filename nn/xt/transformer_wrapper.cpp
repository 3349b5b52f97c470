#include <weft/autograd/autograd.h>
#include <weft/nn/container.h>
#include <weft/nn/xt/layer.h>
#include <weft/nn/xt/transformer_wrapper.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/linear.h>
#include <weft/ops/matmul.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>
#include <weft/ops/softmax.h>

namespace weft::xt {
namespace {

// Whether logits are products with the embedding; return_only_embed leaves none.
bool ties_logits(const TransformerWrapperConfig& c) { return c.tie_embedding && !c.return_only_embed; }

const TransformerWrapperConfig& checked(const TransformerWrapperConfig& c) {
  check(c.attn_layers != nullptr, "TransformerWrapper: no attn_layers given");
  check(c.num_tokens > 0, "TransformerWrapper: num_tokens must be positive, got ", c.num_tokens);
  check(c.num_output_heads > 0, "TransformerWrapper: num_output_heads must be positive, got ", c.num_output_heads);
  check(!c.average_pool_embed || !c.use_cls_token,
        "TransformerWrapper: average_pool_embed and use_cls_token exclude each other");
  check(!c.mixture_of_softmax || c.num_output_heads == 1,
        "TransformerWrapper: mixture_of_softmax has one output head, not ", c.num_output_heads);
  check(c.emb_frac_gradient > 0 && c.emb_frac_gradient <= 1,
        "TransformerWrapper: emb_frac_gradient must be in (0, 1], got ", c.emb_frac_gradient);
  check(!ties_logits(c) || c.emb_dim.value_or(c.attn_layers->dim()) == c.attn_layers->dim(),
        "TransformerWrapper: tie_embedding needs an emb_dim of dim ", c.attn_layers->dim());
  check(!c.memory_tokens_interspersed_every || (*c.memory_tokens_interspersed_every > 0 && c.attn_layers->causal()),
        "TransformerWrapper: memory_tokens_interspersed_every must be positive, and the layers causal");
  check(!c.recycling || c.train_max_recycle_steps > 0, "TransformerWrapper: train_max_recycle_steps must be positive");
  return c;
}

}  // namespace

Fields fields(TransformerWrapperConfig& c) {
  Fields f;
  WEFT_XT_TRANSFORMER_WRAPPER_OPTIONS(WEFT_XT_FIELD, )
  return f;
}

TransformerWrapper::TransformerWrapper(const TransformerWrapperConfig& given)
    : config_(checked(given)), emb_dim_(given.emb_dim.value_or(given.attn_layers->dim())), token_emb_(given.token_emb) {
  const TransformerWrapperConfig& c = config_;
  const int64_t dim = c.attn_layers->dim();
  if (!token_emb_) token_emb_ = std::make_shared<TokenEmbedding>(emb_dim_, c.num_tokens, c.l2norm_embed);
  register_module("token_emb", token_emb_);
  pos_emb_ = make_position_embedding(
      emb_dim_, {c.max_seq_len, c.use_abs_pos_emb, c.scaled_sinu_pos_emb, c.l2norm_embed}, *c.attn_layers);
  if (pos_emb_) register_module("pos_emb", pos_emb_);
  if (auto* learned = dynamic_cast<AbsolutePositionalEmbedding*>(pos_emb_.get()); learned && c.l2norm_embed)
    init::normal_(learned->emb.weight, 0, 1e-5);
  if (!c.embed_num_tokens.empty()) {
    const auto dict = register_module("embeds", std::make_shared<Numbered>("ModuleDict"));
    for (const auto& [name, size] : c.embed_num_tokens) {
      embeds_.emplace_back(name, std::make_shared<Embedding>(size, emb_dim_));
      dict->add(name + "_embed", embeds_.back().second);
    }
  }
  if (c.post_emb_norm) post_emb_norm_ = register_module("post_emb_norm", std::make_shared<LayerNorm>(emb_dim_));
  if (emb_dim_ != dim) project_emb_ = register_module("project_emb", std::make_shared<Linear>(emb_dim_, dim));
  register_module("attn_layers", c.attn_layers);
  if (c.recycling) recycled_proj_ = register_module("recycled_proj", std::make_shared<Linear>(dim, dim, false));
  if (c.use_cls_token) {
    cls_token_ = register_parameter("cls_token", empty({c.num_cls_tokens, dim}));
    init::normal_(cls_token_, 0, 0.02);
  }
  if (c.mixture_of_softmax) {
    to_mixture_ = std::make_shared<Linear>(dim, dim * c.mixture_of_softmax_k, false);
    register_module("to_mixture", std::make_shared<Sequential>(to_mixture_));
    combine_mixture_ = register_module("combine_mixture", std::make_shared<Linear>(dim, c.mixture_of_softmax_k, false));
  }
  const int64_t logits = c.logits_dim.value_or(c.num_tokens);
  if (c.return_only_embed || c.tie_embedding) {
    check(!ties_logits(c) || dynamic_cast<TokenEmbedding*>(token_emb_.get()),
          "TransformerWrapper: tie_embedding needs a TokenEmbedding, not a ", token_emb_->name());
  } else if (c.num_output_heads > 1) {
    const auto heads = register_module("to_logits", std::make_shared<ModuleList>());
    for (int64_t i = 0; i < c.num_output_heads; ++i)
      to_logits_.push_back(heads->push_back(std::make_shared<Linear>(dim, logits, false)));
  } else {
    to_logits_.push_back(
        register_module("to_logits", c.to_logits ? c.to_logits : std::make_shared<Linear>(dim, logits, false)));
  }
  if (memory_tokens() > 0) memory_tokens_ = register_parameter("memory_tokens", randn({memory_tokens(), dim}));
}

bool TransformerWrapper::can_cache_kv() const {
  return config_.attn_layers->can_cache_kv() && !config_.average_pool_embed && !config_.use_cls_token;
}

Tensor TransformerWrapper::logits_weight() const {
  if (config_.sigsoftmax_logits || config_.mixture_of_softmax || config_.squeeze_out_last_dim) return {};
  if (ties_logits(config_)) return static_cast<const TokenEmbedding&>(*token_emb_).emb.weight;
  const auto* head = to_logits_.size() == 1 ? dynamic_cast<const Linear*>(to_logits_[0].get()) : nullptr;
  return head && !head->bias.defined() ? head->weight : Tensor();
}

// Tokens to what the layers read; call becomes the layers' call.
Tensor TransformerWrapper::embed(const Tensor& tokens, Call& call) const {
  check(tokens.dim() == 2 && !tokens.is_floating(), name(), ": expected integer tokens [batch, length], got ",
        tokens.dtype(), " ", tokens.shape());
  const int64_t b = tokens.size(0), n = tokens.size(1);
  Tensor x = token_emb_->forward(tokens);  // [b, n, emb_dim]
  const Tensor positions = given_or_position_embeddings(pos_emb_.get(), n, call, tokens.device());
  if (positions.defined()) x = x + positions;

  check(call.embed_ids.size() == embeds_.size(), name(), ": ", call.embed_ids.size(), " embed_ids for ", embeds_.size(),
        " in embed_num_tokens");
  for (const auto& [name, ids] : call.embed_ids) {
    const auto it = std::find_if(embeds_.begin(), embeds_.end(), [&](const auto& e) { return e.first == name; });
    check(it != embeds_.end(), "TransformerWrapper: no embedding called ", name, " in embed_num_tokens");
    x = x + it->second->forward(ids);
  }
  if (call.sum_embeds.defined()) x = x + call.sum_embeds;
  if (post_emb_norm_) x = post_emb_norm_->forward(x);

  start_to_mask(call, n, tokens.device());
  if (call.prepend_embeds.defined()) put_in_front(call.prepend_embeds, call.prepend_mask, x, call);
  const double f = config_.emb_frac_gradient;
  if (f < 1) x = x * f + x.detach() * (1 - f);
  x = dropout(x, config_.emb_dropout, is_training());
  if (project_emb_) x = project_emb_->forward(x);
  if (cls_token_.defined()) put_in_front(repeated(cls_token_, b), {}, x, call);
  return x;
}

Tensor TransformerWrapper::recycled(const Tensor& x, const Call& call, LayerIntermediates& kept) const {
  int64_t steps = call.recycle_steps.value_or(0);
  if (!call.recycle_steps && is_training())
    steps = randint(1, config_.train_max_recycle_steps + 1, {1}).item<int64_t>();
  check(steps > 0, name(), ": recycling needs recycle_steps in evaluation mode");
  Tensor y;
  for (int64_t i = 0; i < steps; ++i) {
    const GradMode mode(grad_enabled() && i == steps - 1);
    kept = {};
    if (call.cache) call.cache->begin_pass(static_cast<size_t>(i), static_cast<size_t>(steps));
    y = (*config_.attn_layers)(y.defined() ? x + recycled_proj_->forward(y.detach()) : x, call, &kept);
  }
  return y;
}

Tensor TransformerWrapper::through_layers(Tensor x, Call& call, LayerIntermediates& kept) const {
  std::optional<MemoryTokens> memory;
  if (memory_tokens_.defined())
    memory.emplace(memory_tokens_, config_.memory_tokens_interspersed_every.value_or(0), x, call);
  check(config_.recycling || call.recycle_steps.value_or(1) == 1, name(), ": recycle_steps without recycling");
  const Tensor y = config_.recycling ? recycled(x, call, kept) : (*config_.attn_layers)(x, call, &kept);
  return memory ? memory->taken_out(y, kept) : y;
}

Tensors TransformerWrapper::make_logits(const Tensor& x, const Tensor& mixture) const {
  Tensors all;
  if (ties_logits(config_)) all.push_back(linear(x, static_cast<const TokenEmbedding&>(*token_emb_).emb.weight));
  for (const auto& head : to_logits_) all.push_back(head->forward(x));
  for (Tensor& logits : all) {
    if (config_.sigsoftmax_logits) logits = logits + log_sigmoid(logits);
    if (mixture.defined()) logits = log(clamp_min(sum(softmax(logits, -1) * unsqueeze(mixture, -1), -2), 1e-20));
    if (config_.squeeze_out_last_dim && logits.size(-1) == 1) logits = squeeze(logits, -1);
  }
  return all;
}

TransformerOutput TransformerWrapper::run(const Tensor& tokens, const Call& given) const {
  Call call = given;
  check(!call.cache || can_cache_kv(), name(), ": cannot use a cache with this configuration");
  TransformerOutput out;
  Tensor x = Autocast::apply(embed(tokens, call));
  Tensor mask = call.mask;  // of x, without memory tokens
  if (call.padding_mask.defined()) mask = mask.defined() ? logical_and(mask, call.padding_mask) : call.padding_mask;
  call.pos = {};
  shift_mems(call, config_.shift_mem_down);
  call.return_attn |= call.return_attn_z_loss;
  x = through_layers(x, call, out.intermediates);
  if (call.cache && !call.cache->fixed()) call.cache->tokens += tokens.size(1);

  if (config_.average_pool_embed) x = masked_mean(x, mask);
  if (cls_token_.defined()) {
    x = slice(x, 1, 0, config_.num_cls_tokens);
    if (config_.num_cls_tokens == 1) x = squeeze(x, 1);
  }
  Tensor mixture;
  if (to_mixture_) {
    mixture = softmax(combine_mixture_->forward(x), -1);
    x = unflatten(to_mixture_->forward(x), -1, {config_.mixture_of_softmax_k, -1});
  }
  out.embeddings = x;
  if (!call.return_embeddings) out.logits = make_logits(x, mixture);
  if (call.return_logit_entropies) {
    check(!out.logits.empty(), name(), ": return_logit_entropies needs logits");
    out.logit_entropies = calc_entropy(out.logits[0]);
  }
  if (call.return_attn_z_loss)
    out.attn_z_loss = attn_z_loss(out.intermediates, call.attn_z_loss_weight.value_or(config_.attn_z_loss_weight));
  if (call.return_mems) out.mems = next_mems(call.mems, out.intermediates.hiddens, config_.max_mem_len);
  return out;
}

Tensor TransformerWrapper::operator()(const Tensor& tokens, const Call& call) const {
  const TransformerOutput out = run(tokens, call);
  if (out.logits.empty()) return out.embeddings;
  check(out.logits.size() == 1, name(), ": there are ", out.logits.size(), " sets of logits: see run");
  return out.logits[0];
}

Tensor calc_entropy(const Tensor& logits) {
  const Tensor p = softmax(logits, -1);
  return neg(sum(p * log(clamp_min(p, 1e-20)), -1));
}

}  // namespace weft::xt
