// Cache: what a causal model keeps of the tokens it has seen, so that a call need only bring the new ones.
#pragma once

#include <weft/tensor/tensor.h>

#include <map>

namespace weft::xt {

/// Rows along one dimension, appended in memory taken ahead (doubled where it runs out). Writing is not recorded: use
/// it without gradients only.
class Growing {
 public:
  /// Appends rows [..., m, ...] along dim; capacity 0: what is kept does not grow (a context).
  void append(const Tensor& rows, int64_t dim, int64_t capacity);
  /// What has been appended so far, a view (once fixed, all of the memory); undefined before.
  Tensor get() const { return position_.defined() || filled_ == 0 ? memory_ : memory_.slice(dim_, 0, filled_); }
  /// The last row.
  Tensor last() const;
  int64_t size() const { return filled_; }  ///< once fixed, what it was then
  /// Forgets the last rows.
  void drop(int64_t rows) { filled_ -= std::min(filled_, grows_ ? rows : 0); }
  /// Row i of the batch (dimension 0) becomes row order[i]; in_place: in the same memory, and
  /// a context stays as it is.
  void reorder(const Tensor& order, bool in_place);
  /// See Cache::fix; position is the cache's, for its first `length` places.
  void fix(int64_t length, int64_t more, const Tensor& position);

 private:
  Tensor memory_, position_;
  int64_t dim_ = 0, filled_ = 0, before_ = 0;  // before_: rows ahead of place 0
  bool grows_ = true;
};

/// Of one sublayer.
struct LayerCache {
  int64_t capacity = 0;
  Growing k, v;                           ///< [b, kv_heads, learned keys + tokens, d], keys turned already
  Growing forget_gates;                   ///< data_dependent_alibi's running sums, [b, h, tokens]
  Growing forget_keys;                    ///< and its keys a row, [b, h, tokens, d]
  Growing masked;                         ///< by selective attention: what tokens have taken off each key, [b, keys]
  std::map<const void*, Tensor> shifted;  ///< by ShiftTokens: its last inputs, [b, shift, dim]
};

/// One batch of sequences in the making. Start with an empty one, call the model with the prompt and then with what
/// follows, without gradients; the context of cross-attention is read by the first call only. Results are those of a
/// call with everything at once.
class Cache {
 public:
  /// Memory for this many tokens is taken at once; more may follow.
  explicit Cache(int64_t capacity = 256) : capacity_(capacity) {
    check(capacity > 0, "Cache: capacity must be positive, got ", capacity);
  }

  /// Sequence places that the layers have seen (memory tokens and prepended embeddings too); once fixed, had seen then.
  int64_t length() const { return length_; }
  /// Forgets all but the first places; throws where a sublayer has kept only its last inputs (shift_tokens).
  void truncate(int64_t length);
  /// Row i of the batch becomes row order[i] (int64 [b]): for beam search. Once fixed, rows that trade places must have
  /// the same context.
  void reorder(const Tensor& order);

  /// After the first call: room for `more` places and no more, and from now on the length is counted on the device.
  /// Calls work on all of the memory, where a mask hides what is not written yet: calls of equally many tokens have
  /// equal shapes and memory, and no number of the host in them, so that one can be recorded and replayed
  /// (cuda/graph.h). A place beyond the room is an error. It cannot be cut.
  void fix(int64_t more, Device device);
  bool fixed() const { return position_.defined(); }
  int64_t room() const { return room_; }  ///< once fixed, places that there can be

  // For the modules that fill it.
  /// What sublayer i keeps of this pass.
  LayerCache& layer(size_t i);
  /// Where the layers read the same places several times (recycling), each pass keeps its own, and the last one counts
  /// them.
  void begin_pass(size_t pass, size_t of);
  bool first_pass() const { return pass_ == 0; }
  /// int64 [n]: places of the next n tokens, or (of_tokens) their numbers.
  Tensor next(int64_t n, Device device, bool of_tokens = false) const;
  void advance(int64_t places);
  Growing key_mask;      ///< bool [b, memories + places]; empty while every key may be seen
  int64_t memories = 0;  ///< keys before the first place (Transformer-XL)
  int64_t tokens = 0;    ///< tokens that TransformerWrapper has embedded; as length()
  Tensor seq_start_pos;  ///< int64 [b], in places of the layers (token_start where a wrapper is called)
  Tensor token_start;    ///< int64 [b], in tokens of TransformerWrapper
  int64_t capacity() const { return capacity_; }

 private:
  int64_t capacity_, length_ = 0, room_ = 0;
  Tensor position_;  // int64 [1], once fixed: places that the layers have seen
  size_t pass_ = 0;
  std::vector<std::vector<LayerCache>> passes_ = std::vector<std::vector<LayerCache>>(1);
};

}  // namespace weft::xt
