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
  /// After the first call: how many tokens step() could read; 0 where there is no cache, or one that cannot be fixed.
  int64_t steps() const;
  /// From now on tokens are read by so many calls of step(), after which whole texts may be given again.
  void fix(int64_t steps);
  /// token: int64 [b, 1] → [b, num_tokens]. Nothing of the host changes in it: it can be recorded and replayed.
  Tensor step(const Tensor& token);
  /// Row i of the batch becomes row order[i] of it, for the texts of the next step (int64 [b]). alike: rows that trade
  /// places have equal masks, contexts and beginnings, which stay where they are.
  void reorder(const Tensor& order, bool alike = false);

 private:
  Tensor with_cache(const Tensor& text);
  Tensor read(const Tensor& text) const;
  Call later_call();

  const TransformerWrapper& net_;
  NextTokenOptions options_;
  std::optional<Cache> cache_;
};

}  // namespace weft::xt
