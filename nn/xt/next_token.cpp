#include <weft/nn/xt/next_token.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

#include <limits>

namespace weft::xt {
namespace {

// Masks of the first text, true at the tokens that have come since.
Tensor grown(const Tensor& mask, int64_t n) {
  return mask.defined() && mask.size(1) < n ? pad(mask, {0, n - mask.size(1)}, 1) : mask;
}

}  // namespace

NextToken::NextToken(const TransformerWrapper& net, NextTokenOptions options)
    : net_(net), options_(std::move(options)) {
  check(options_.call.cache == nullptr, "NextToken: has a cache of its own");
  if (options_.cache_kv && net.can_cache_kv()) cache_.emplace(options_.capacity);
}

Tensor NextToken::operator()(const Tensor& text) {
  const Tensor& prefix = options_.call.prefix_attn_len;
  if (cache_ && cache_->length() == 0 && prefix.defined() && amax(prefix).item<int64_t>() > text.size(1))
    cache_.reset();  // what comes will be seen by what is there
  const bool slides = options_.restrict_to_max_seq_len && net_.max_seq_len() > 0 && text.size(1) > net_.max_seq_len();
  if (slides || (cache_ && cache_->fixed())) cache_.reset();
  const Tensor logits = cache_ ? with_cache(text) : read(text);  // [b, n, c]
  return select(logits, 1, -1);
}

Tensor NextToken::with_cache(const Tensor& text) {
  const int64_t seen = cache_->tokens;
  Call call = later_call();
  if (seen == 0) call = options_.call, call.cache = &*cache_;
  return net_(slice(text, 1, seen), call);
}

// Without what is of the first text alone.
Call NextToken::later_call() {
  Call call = options_.call;
  call.cache = &*cache_;
  call.mask = call.self_attn_kv_mask = call.padding_mask = call.prepend_embeds = call.prepend_mask =
      call.seq_start_pos = {};
  call.mems.clear(), call.mem_masks.clear();
  return call;
}

int64_t NextToken::steps() const {
  const Call& c = options_.call;
  if (net_.config().memory_tokens_interspersed_every) return 0;  // some steps read memory tokens too
  if (!cache_ || cache_->fixed() || cache_->length() == 0 || c.attn_bias.defined() || c.pos.defined()) return 0;
  const bool limited =
      net_.max_seq_len() > 0 && (options_.restrict_to_max_seq_len || !net_.can_cache_kv_outside_max_seq_len());
  return limited ? std::max<int64_t>(0, net_.max_seq_len() - cache_->tokens) : std::numeric_limits<int64_t>::max();
}

void NextToken::fix(int64_t steps) {
  check(steps <= this->steps(), "NextToken: ", steps, " steps are more than ", this->steps());
  cache_->fix(steps, net_.parameters().at(0).device());
}

Tensor NextToken::step(const Tensor& token) {
  check(cache_ && cache_->fixed() && token.dim() == 2 && token.size(1) == 1,
        "NextToken: a step reads tokens [batch, 1] after fix");
  return select(net_(token, later_call()), 1, -1);
}

Tensor NextToken::read(const Tensor& text) const {
  const int64_t n = text.size(1);
  const int64_t limit = options_.restrict_to_max_seq_len && net_.max_seq_len() > 0 ? net_.max_seq_len() : n;
  const int64_t from = std::max<int64_t>(0, n - limit);
  Call call = options_.call;
  for (Tensor* mask : {&call.mask, &call.self_attn_kv_mask, &call.padding_mask})
    if (mask->defined()) *mask = slice(grown(*mask, n), 1, from);
  if (call.seq_start_pos.defined()) call.seq_start_pos = clamp_min(call.seq_start_pos - from, 0);
  return net_(slice(text, 1, from), call);
}

void NextToken::reorder(const Tensor& order, bool alike) {
  if (cache_) cache_->reorder(order);
  if (alike) return;
  Call& c = options_.call;
  for (Tensor* t :
       {&c.mask, &c.self_attn_kv_mask, &c.padding_mask, &c.seq_start_pos, &c.context, &c.context_mask,
        &c.prepend_embeds, &c.prepend_mask, &c.condition, &c.in_attn_cond, &c.sum_embeds, &c.prefix_attn_len})
    if (t->defined()) *t = index_select(*t, 0, order);
  for (const auto& [t, dims] :
       {std::pair{&c.pos, 2}, {&c.context_pos, 2}, {&c.attn_bias, 4}})  // may be one for all rows
    if (t->defined() && t->dim() >= dims && t->size(0) > 1) *t = index_select(*t, 0, order);
  for (Tensors* list : {&c.mems, &c.mem_masks})
    for (Tensor& t : *list)
      if (t.defined()) t = index_select(t, 0, order);
}

}  // namespace weft::xt
