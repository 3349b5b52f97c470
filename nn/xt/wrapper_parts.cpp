#include <weft/nn/xt/places.h>
#include <weft/nn/xt/wrapper_parts.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>
#include <weft/ops/softmax.h>

#include <algorithm>

namespace weft::xt {

std::shared_ptr<PositionEmbedding> make_position_embedding(int64_t dim, const PositionOptions& o,
                                                           const AttentionLayers& layers) {
  check(o.max_seq_len >= 0, "max_seq_len must not be negative, got ", o.max_seq_len);
  if (o.max_seq_len == 0 || !o.use_abs_pos_emb || layers.disable_abs_pos_emb()) return nullptr;
  if (o.scaled_sinu_pos_emb) return std::make_shared<ScaledSinusoidalEmbedding>(dim);
  return std::make_shared<AbsolutePositionalEmbedding>(dim, o.max_seq_len, o.l2norm_embed);
}

Tensor position_embeddings(const PositionEmbedding* emb, int64_t n, const Call& call, Device device) {
  if (!emb) return {};
  const int64_t before = call.cache ? call.cache->tokens : 0;
  Tensor pos = call.pos;
  if (!pos.defined()) {
    emb->check_length(before + n);
    pos = call.cache ? call.cache->next(n, device, true) : places(0, n, device);
  }
  if (call.cache && before == 0) call.cache->token_start = call.seq_start_pos;
  const Tensor start = call.cache ? call.cache->token_start : call.seq_start_pos;
  return emb->forward(start.defined() ? pos - unsqueeze(start, -1) : pos);
}

Tensor given_or_position_embeddings(const PositionEmbedding* emb, int64_t n, const Call& call, Device device) {
  return call.pos.defined() && call.pos.is_floating() ? call.pos : position_embeddings(emb, n, call, device);
}

void put_in_front(const Tensor& block, const Tensor& block_mask, Tensor& x, Call& call) {
  check(block.dim() == 3 && block.size(0) == x.size(0) && block.size(2) == x.size(2), "embeddings ", block.shape(),
        " do not fit in front of ", x.shape());
  const Tensor all = ones({x.size(0), block.size(1)}, {.dtype = boolean, .device = x.device()});
  if (block_mask.defined() && !call.mask.defined())
    call.mask = ones({x.size(0), x.size(1)}, {.dtype = boolean, .device = x.device()});
  if (call.mask.defined()) call.mask = cat({block_mask.defined() ? block_mask : all, call.mask}, 1);
  for (Tensor* mask : {&call.self_attn_kv_mask, &call.padding_mask})
    if (mask->defined()) *mask = cat({all, *mask}, 1);
  x = cat({block, x}, 1);
}

Tensor repeated(const Tensor& tokens, int64_t b) {
  return expand(unsqueeze(tokens, 0), {b, tokens.size(0), tokens.size(1)});
}

Tensor take_memory_out(const Tensor& y, int64_t prepended, int64_t memory, LayerIntermediates& kept) {
  kept.memory_tokens = slice(y, 1, prepended, prepended + memory);
  const Tensor rest = slice(y, 1, prepended + memory);
  return prepended > 0 ? cat({slice(y, 1, 0, prepended), rest}, 1) : rest;
}

MemoryTokens::MemoryTokens(const Tensor& tokens, int64_t every, Tensor& x, Call& call)
    : num_(tokens.size(0)), n_(x.size(1)) {
  if (num_ == 0) return;
  check(every == 0 || !call.cache || !call.cache->fixed(),
        "memory_tokens_interspersed_every and a fixed cache exclude each other: some calls read memory tokens too");
  const int64_t seen = call.cache ? call.cache->length() : 0;
  if (every > 0) {
    const int64_t earlier = (seen + num_ + every - 1) / (num_ + every);
    for (int64_t i = 0; i < n_; ++i)
      if ((seen - earlier * num_ + i) % every == 0) blocks_.push_back(i);
  } else if (seen == 0) {
    blocks_.push_back(0);
  }
  if (blocks_.empty()) return;
  // As the original does, a text's last block is filled up, which nothing sees; with a cache more is to come there.
  const int64_t tail = every > 0 && !call.cache ? (every - n_ % every) % every : 0;
  const auto put = [&](const Tensor& t, const Tensor& block) {
    Tensors parts;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (i == 0) parts.push_back(slice(t, 1, 0, blocks_[0]));
      parts.push_back(block);
      parts.push_back(slice(t, 1, blocks_[i], end_of(i)));
    }
    std::vector<int64_t> amounts(static_cast<size_t>(2 * (t.dim() - 1)), 0);
    amounts.back() = tail;
    return pad(cat(parts, 1), amounts);
  };
  const Tensor all = ones({x.size(0), num_}, {.dtype = boolean, .device = x.device()});
  x = put(x, repeated(tokens, x.size(0)));
  for (Tensor* mask : {&call.mask, &call.self_attn_kv_mask, &call.padding_mask}) {
    if (!mask->defined()) continue;
    check(mask->shape() == Shape{x.size(0), n_}, "expected a mask [", x.size(0), ", ", n_, "], got ", mask->shape());
    *mask = put(*mask, all);
  }
}

Tensor MemoryTokens::taken_out(const Tensor& y, LayerIntermediates& kept) const {
  if (blocks_.empty()) return y;
  Tensors of_memory, rows{slice(y, 1, 0, blocks_[0])};
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const int64_t at = blocks_[i] + static_cast<int64_t>(i) * num_;
    of_memory.push_back(slice(y, 1, at, at + num_));
    rows.push_back(slice(y, 1, at + num_, at + num_ + end_of(i) - blocks_[i]));
  }
  kept.memory_tokens = flatten(stack(of_memory, 1), 0, 1);
  return cat(rows, 1);
}

Tensor attn_z_loss(const LayerIntermediates& kept, double weight) {
  Tensor total;
  for (const Intermediates& a : kept.attn_intermediates) {
    const Tensor lse = logsumexp(a.pre_softmax_attn, -1);
    total = total.defined() ? total + lse : lse;
  }
  check(total.defined(), "return_attn_z_loss needs attention layers");
  return mean(sum(square(total), 1)) * weight;
}

Tensor masked_mean(const Tensor& x, const Tensor& mask) {
  if (!mask.defined()) return mean(x, 1);
  Tensor m = mask;
  while (m.dim() < x.dim()) m = unsqueeze(m, -1);
  return sum(where(m, x, 0), 1) / clamp_min(sum(m, 1), 1).to(x.dtype());
}

Tensors next_mems(const Tensors& mems, const Tensors& hiddens, int64_t max_mem_len) {
  check(max_mem_len >= 0, "max_mem_len must not be negative, got ", max_mem_len);
  Tensors next;
  for (size_t i = 0; i < hiddens.size() && (mems.empty() || i < mems.size()); ++i) {
    const Tensor seen = mems.empty() ? hiddens[i] : cat({mems[i], hiddens[i]}, -2);
    const int64_t from = max_mem_len == 0 ? 0 : std::max<int64_t>(0, seen.size(-2) - max_mem_len);
    next.push_back(slice(seen, -2, from).detach());
  }
  return next;
}

void start_to_mask(Call& call, int64_t n, Device device) {
  if (!call.seq_start_pos.defined()) return;
  const Tensor real = ge(places(0, n, device), unsqueeze(call.seq_start_pos, -1));
  call.padding_mask = call.padding_mask.defined() ? logical_and(call.padding_mask, real) : real;
  call.seq_start_pos = {};
}

void shift_mems(Call& call, int64_t by) {
  for (Tensors* list : {&call.mems, &call.mem_masks}) {
    const auto n = std::clamp<int64_t>(by, 0, static_cast<int64_t>(list->size()));
    std::rotate(list->begin(), list->begin() + n, list->end());
  }
}

}  // namespace weft::xt
