#include <weft/nn/xt/layer.h>
#include <weft/nn/xt/multi_input.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/random.h>
#include <weft/ops/shape.h>

namespace weft::xt {

Fields fields(MultiInputTransformerWrapperConfig& c) {
  Fields f;
  WEFT_XT_MULTI_INPUT_OPTIONS(WEFT_XT_FIELD, )
  return f;
}

MultiInputTransformerWrapper::MultiInputTransformerWrapper(const MultiInputTransformerWrapperConfig& c) : config_(c) {
  check(c.attn_layers != nullptr, "MultiInputTransformerWrapper: no attn_layers given");
  check(!c.num_tokens.empty(), "MultiInputTransformerWrapper: no num_tokens given");
  check(c.emb_frac_gradient > 0 && c.emb_frac_gradient <= 1,
        "MultiInputTransformerWrapper: emb_frac_gradient must be in (0, 1], got ", c.emb_frac_gradient);
  check(!c.memory_tokens_interspersed_every || (*c.memory_tokens_interspersed_every > 0 && c.attn_layers->causal()),
        "MultiInputTransformerWrapper: memory_tokens_interspersed_every must be positive, and the layers causal");
  const int64_t dim = c.attn_layers->dim(), emb_dim = c.emb_dim.value_or(dim);
  pos_emb_ =
      make_position_embedding(emb_dim, {c.max_seq_len, c.use_abs_pos_emb, c.scaled_sinu_pos_emb}, *c.attn_layers);
  if (pos_emb_) register_module("pos_emb", pos_emb_);
  const auto embeds = register_module("embeds", std::make_shared<Numbered>("ModuleDict"));
  for (const auto& [name, size] : c.num_tokens) {
    embeds_.push_back(std::make_shared<Embedding>(size, emb_dim));
    embeds->add(name + "_embed", embeds_.back());
  }
  if (c.post_emb_norm) post_emb_norm_ = register_module("post_emb_norm", std::make_shared<LayerNorm>(emb_dim));
  if (emb_dim != dim) project_emb_ = register_module("project_emb", std::make_shared<Linear>(emb_dim, dim));
  register_module("attn_layers", c.attn_layers);
  if (!c.return_only_embed) {
    const auto heads = register_module("to_logits", std::make_shared<Numbered>("ModuleDict"));
    for (const auto& [name, size] : c.num_tokens) {
      to_logits_.push_back(std::make_shared<Linear>(dim, size, false));
      heads->add(name, to_logits_.back());
    }
  }
  if (c.num_memory_tokens.value_or(0) > 0)
    memory_tokens_ = register_parameter("memory_tokens", randn({*c.num_memory_tokens, dim}));
}

MultiInputTransformerWrapper::Output MultiInputTransformerWrapper::operator()(const NamedInputs& ids,
                                                                              const Call& given) const {
  check(ids.size() == embeds_.size(), name(), ": ", ids.size(), " inputs for ", embeds_.size(), " in num_tokens");
  const auto& [first, first_ids] = ids[0];
  check(first_ids.dim() == 2, name(), ": expected ids [batch, length], got ", first, " ", first_ids.shape());
  Call call = given;
  Tensor x;
  for (size_t i = 0; i < embeds_.size(); ++i) {
    const std::string& wanted = config_.num_tokens[i].first;
    const auto it = std::find_if(ids.begin(), ids.end(), [&](const auto& e) { return e.first == wanted; });
    check(it != ids.end(), name(), ": no input called ", wanted);
    check(it->second.shape() == first_ids.shape(), name(), ": expected ids of one shape, got ", first, " ",
          first_ids.shape(), " and ", wanted, " ", it->second.shape());
    const Tensor own = embeds_[i]->forward(it->second);  // [b, n, emb_dim]
    x = x.defined() ? x + own : own;
  }
  const int64_t n = x.size(1);
  const Tensor positions = given_or_position_embeddings(pos_emb_.get(), n, call, x.device());
  if (positions.defined()) x = x + positions;
  if (call.sum_embeds.defined()) x = x + call.sum_embeds;
  if (post_emb_norm_) x = post_emb_norm_->forward(x);
  start_to_mask(call, n, x.device());
  if (call.prepend_embeds.defined()) put_in_front(call.prepend_embeds, call.prepend_mask, x, call);
  const double f = config_.emb_frac_gradient;
  if (f < 1) x = x * f + x.detach() * (1 - f);
  x = dropout(x, config_.emb_dropout, is_training());
  if (project_emb_) x = project_emb_->forward(x);
  std::optional<MemoryTokens> memory;
  if (memory_tokens_.defined())
    memory.emplace(memory_tokens_, config_.memory_tokens_interspersed_every.value_or(0), x, call);
  shift_mems(call, config_.shift_mem_down);
  call.pos = {};

  call.return_attn |= call.return_attn_z_loss;
  Output out;
  x = (*config_.attn_layers)(x, call, &out.intermediates);
  if (call.cache && !call.cache->fixed()) call.cache->tokens += n;
  if (memory) x = memory->taken_out(x, out.intermediates);
  out.embeddings = x;
  if (!call.return_embeddings)
    for (size_t i = 0; i < to_logits_.size(); ++i)
      out.logits.emplace_back(config_.num_tokens[i].first, to_logits_[i]->forward(x));
  if (call.return_attn_z_loss)
    out.attn_z_loss = attn_z_loss(out.intermediates, call.attn_z_loss_weight.value_or(config_.attn_z_loss_weight));
  if (call.return_mems) out.mems = next_mems(call.mems, out.intermediates.hiddens, config_.max_mem_len);
  return out;
}

}  // namespace weft::xt
