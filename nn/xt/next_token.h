// NextToken: logits of the token after a growing text, with a cache where there can be one.
#pragma once

#include <weft/nn/xt/transformer_wrapper.h>

namespace weft::xt {

struct NextTokenOptions {
  Call call = {};  ///< context, masks of the first text, prepended embeddings, ...
  bool cache_kv = true;
  bool restrict_to_max_seq_len = true;  ///< read the last max_seq_len tokens only
  int64_t capacity = 256;               ///< tokens to expect
};

/// Give it the whole text at each step, each time longer by one or more tokens; it reads what is new. The results are
/// those of reading everything each time. Beyond max_seq_len, where the window moves on and everything in it with it,
/// it does read everything.
class NextToken {
 public:
  NextToken(const TransformerWrapper& net, NextTokenOptions options);
  /// text: int64 [b, n] → [b, num_tokens].
  Tensor operator()(const Tensor& text);
  /// Row i of the batch becomes row order[i] of it, for the texts of the next step (int64 [b]).
  void reorder(const Tensor& order);

 private:
  Tensor with_cache(const Tensor& text);
  Tensor read(const Tensor& text) const;

  const TransformerWrapper& net_;
  NextTokenOptions options_;
  std::optional<Cache> cache_;
};

}  // namespace weft::xt
