// Attention without the matrix of weights: forward and backward go over it tile by tile and keep one number a row.
// Source of the tiling: FlashAttention (arXiv:2205.14135) and FlashAttention-2 (arXiv:2307.08691).
#pragma once

#include <weft/ops/random.h>

#include <optional>

namespace weft {

/// How scores become weights.
enum class AttentionFn : uint8_t {
  softmax,
  relu_squared,  ///< max(s, 0)², no normalisation (arXiv:2202.10447)
  laplace,       ///< (1 + erf((s - √½) / (√2·σ))) / 2 with σ = 1/√(4π) (Mega, arXiv:2209.10655)
};

struct AttentionOptions {
  /// bool, true = attend; broadcasts to [b, h, n, m].
  Tensor mask = {};
  /// Added to the scaled scores; broadcasts to [b, h, n, m], gets a gradient.
  Tensor bias = {};
  /// Query i sees keys up to i + m - n: aligned bottom-right where queries are fewer than keys.
  bool causal = false;
  /// Query i, which stands at p = i + m - n among the keys, sees keys from p - window_left to p + window_right; either
  /// side is open where not given.
  std::optional<int64_t> window_left = {}, window_right = {};
  /// [h] or [b, h], floating: adds -slope · |p - j| to the score of key j (arXiv:2108.12409). No gradient.
  Tensor alibi_slopes = {};
  /// int64 or int32, [b] or a scalar: as if k and v ended after that many keys (m above is this length). Read when the
  /// kernel runs, so a captured graph may be replayed with another. Values are clamped to [0, m].
  Tensor kv_length = {};
  /// Probability of dropping a weight.
  double dropout = 0;
  /// Factor on q·k; 1/sqrt(d) where not given.
  std::optional<double> scale = {};
  AttentionFn fn = AttentionFn::softmax;
};

/// weights(scale · q kᵀ + bias) v.  q: [b, h, n, d], k: [b, h_kv, m, d], v: [b, h_kv, m, d_v] → [b, h, n, d_v], where h
/// is a multiple of h_kv: each key-value head serves h / h_kv query heads. 3-D tensors have no h, 2-D ones neither b. A
/// query that may attend to nothing gives 0, and gets no gradient. Dropout draws from generator.
Tensor scaled_dot_product_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                    const AttentionOptions& options = {}, Generator& generator = default_generator());

/// The same, and the log of each row's sum of exponentials, [b, h, n] (-∞ where a query attends to nothing); both have
/// gradients. For softmax only. What is needed to join attentions over parts of the keys.
struct AttentionResult {
  Tensor out, lse;
};
AttentionResult attention_with_lse(const Tensor& q, const Tensor& k, const Tensor& v,
                                   const AttentionOptions& options = {}, Generator& generator = default_generator());

/// Attention over sequences of different lengths that are packed one after another, each on its own. q: [total_q, h,
/// d], k: [total_k, h_kv, d], v: [total_k, h_kv, d_v] → [total_q, h, d_v]. cu_seqlens_q: int64 or int32, [s + 1],
/// rising from 0 to total_q: sequence i has the rows from cu_seqlens_q[i] up to cu_seqlens_q[i + 1]; cu_seqlens_k
/// likewise. They are read when the kernel runs. max_q, max_k: at least the longest sequence. Not with mask, bias or
/// kv_length; alibi_slopes is [h] or [s, h].
Tensor attention_varlen(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cu_seqlens_q,
                        const Tensor& cu_seqlens_k, int64_t max_q, int64_t max_k, const AttentionOptions& options = {},
                        Generator& generator = default_generator());

}  // namespace weft
