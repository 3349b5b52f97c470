// Choosing the next token.
#pragma once

#include <weft/ops/random.h>

#include <functional>
#include <optional>

namespace weft::xt {

/// logits [b, c] → the same with what shall not be drawn set to -∞.
using FilterLogitsFn = std::function<Tensor(const Tensor& logits)>;

/// Keeps the k largest of each row; k = ceil(frac_num_tokens · c) unless given.
Tensor top_k(const Tensor& logits, double frac_num_tokens = 0.1, std::optional<int64_t> k = {});
/// Keeps the likeliest until their probabilities pass thres (nucleus, arXiv:1904.09751).
Tensor top_p(const Tensor& logits, double thres = 0.9);

/// Keeps those at least min_p times as likely as the likeliest (arXiv:2407.01082).
Tensor min_p(const Tensor& logits, double min_p = 0.1);
/// Keeps those whose probability is at least min_p_ratio · (that of the likeliest)^min_p_pow.
Tensor top_a(const Tensor& logits, double min_p_pow = 2, double min_p_ratio = 0.02);

/// One token a row, int64 [b, 1]: the likeliest where temperature is 0, else drawn from
/// softmax(filter(logits) / temperature).
Tensor sample(const Tensor& logits, double temperature, const FilterLogitsFn& filter, Generator& generator);

/// Tokens after the first eos of each row become pad_value. tokens: int64 [b, n]
Tensor pad_after_eos(const Tensor& tokens, int64_t eos, int64_t pad_value);

}  // namespace weft::xt
