// Cache: what a causal model keeps of the tokens it has seen, so that a call need only bring the new ones.
#pragma once

#include <weft/tensor/tensor.h>

#include <map>

namespace weft::xt {

/// A tensor that grows along one dimension, in memory taken ahead (doubled where it runs out). Writing is not recorded:
/// use it without gradients only.
class Growing {
 public:
  /// Appends rows [..., m, ...] along dim.
  void append(const Tensor& rows, int64_t dim, int64_t capacity);
  /// What has been appended so far, a view; undefined before.
  Tensor get() const { return filled_ == 0 ? Tensor() : memory_.slice(dim_, 0, filled_); }
  int64_t size() const { return filled_; }
  /// Keeps the first size rows.
  void truncate(int64_t size) { filled_ = std::min(filled_, size); }
  /// Row i of the batch (dimension 0) becomes row order[i].
  void reorder(const Tensor& order);

 private:
  Tensor memory_;
  int64_t dim_ = 0, filled_ = 0;
};

/// Of one sublayer.
struct LayerCache {
  int64_t capacity = 0;
  Growing k, v;                           ///< [b, kv_heads, tokens, d], keys turned already
  Growing forget_gates;                   ///< data_dependent_alibi's running sums, [b, h, tokens]
  Growing forget_keys;                    ///< and its keys a row, [b, h, tokens, d]
  std::map<const void*, Tensor> shifted;  ///< by ShiftTokens: its last inputs, [b, shift, dim]
};

/// One batch of sequences in the making. Start with an empty one, call the model with the prompt and then with what
/// follows, without gradients; the context of cross-attention is read by the first call only. Results are those of a
/// call with everything at once.
class Cache {
 public:
  /// Memory for this many tokens is taken at once; more may follow.
  explicit Cache(int64_t capacity = 256) : capacity_(capacity) {}

  /// Sequence places that the layers have seen (memory tokens and prepended embeddings too).
  int64_t length() const { return length_; }
  /// Forgets all but the first places; throws where a sublayer has kept only its last inputs (shift_tokens).
  void truncate(int64_t length);
  /// Row i of the batch becomes row order[i] (int64 [b]): for beam search.
  void reorder(const Tensor& order);

  // For the modules that fill it.
  LayerCache& layer(size_t i);
  void advance(int64_t places) { length_ += places; }
  Growing key_mask;      ///< bool [b, memories + places]; empty while every key may be seen
  int64_t memories = 0;  ///< keys before the first place (Transformer-XL)
  int64_t tokens = 0;    ///< tokens that TransformerWrapper has embedded
  Tensor seq_start_pos;  ///< int64 [b], in places of the layers (token_start where a wrapper is called)
  Tensor token_start;    ///< int64 [b], in tokens of TransformerWrapper
  int64_t capacity() const { return capacity_; }

 private:
  int64_t capacity_, length_ = 0;
  std::vector<LayerCache> layers_;
};

}  // namespace weft::xt
