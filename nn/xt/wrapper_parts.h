// What the wrappers around AttentionLayers share.
#pragma once

#include <weft/nn/xt/attention_layers.h>
#include <weft/nn/xt/position.h>

namespace weft::xt {

/// Whether a wrapper adds positions to its embeddings, and which.
struct PositionOptions {
  int64_t max_seq_len = 0;
  bool use_abs_pos_emb = true;
  bool scaled_sinu_pos_emb = false;
  bool l2norm_embed = false;
};
/// Null where there are none: not wanted, max_seq_len 0, or the layers have positions of their own.
std::shared_ptr<PositionEmbedding> make_position_embedding(int64_t dim, const PositionOptions& options,
                                                           const AttentionLayers& layers);

/// What to add to n tokens: the embeddings of call.pos, or of 0, 1, ... (after those that call.cache has seen), counted
/// from call.seq_start_pos. Undefined where emb is null.
Tensor position_embeddings(const PositionEmbedding* emb, int64_t n, const Call& call, Device device);
/// call.pos itself where it is floating, else the above.
Tensor given_or_position_embeddings(const PositionEmbedding* emb, int64_t n, const Call& call, Device device);

/// Puts a block [b, p, d] in front of x [b, n, d], and its mask (undefined: all true) in front of every mask of the
/// call that is defined.
void put_in_front(const Tensor& block, const Tensor& block_mask, Tensor& x, Call& call);

/// Turns call.seq_start_pos, for n tokens, into a padding_mask, beside which what is put in front stays visible.
void start_to_mask(Call& call, int64_t n, Device device);

/// tokens [num, d] → [b, num, d].
Tensor repeated(const Tensor& tokens, int64_t b);

/// y [b, n, d] without its memory tokens, which stand after the prepended embeddings; they go to kept.
Tensor take_memory_out(const Tensor& y, int64_t prepended, int64_t memory, LayerIntermediates& kept);

/// Learned tokens (arXiv:2006.11527) in front of x, or of every so many places of it, on its way through the layers.
class MemoryTokens {
 public:
  /// Puts tokens [num, dim] into x [b, n, dim] and makes room for them in the call's masks. every: 0 is once, in front.
  /// With a cache x goes on where what it has seen ended.
  MemoryTokens(const Tensor& tokens, int64_t every, Tensor& x, Call& call);
  /// What became of x, from what became of all; that of the tokens goes to kept.
  Tensor taken_out(const Tensor& y, LayerIntermediates& kept) const;

 private:
  int64_t end_of(size_t block) const { return block + 1 < blocks_.size() ? blocks_[block + 1] : n_; }

  int64_t num_, n_;
  std::vector<int64_t> blocks_;  // in front of which of x's rows there are memory tokens
};

/// weight · mean over tokens of Σ_heads (Σ_layers log Σ exp(scores))² (after arXiv:2202.08906, on attention).
Tensor attn_z_loss(const LayerIntermediates& kept, double weight);

/// Mean over dimension 1 of x [b, n, ...], of the places where mask (bool [b, n], may be undefined) is true.
Tensor masked_mean(const Tensor& x, const Tensor& mask);

/// mems of the next call: of each attention, what it was given and what it saw, the last max_mem_len of it (0: all),
/// without gradient.
Tensors next_mems(const Tensors& mems, const Tensors& hiddens, int64_t max_mem_len);

/// The mems of layer i + by go to layer i, the first ones to the last layers (enhanced recurrence, arXiv:2012.15688).
void shift_mems(Call& call, int64_t by);

}  // namespace weft::xt
