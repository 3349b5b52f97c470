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

/// The expert's logits against an amateur's: (1 + beta) expert - beta amateur, -∞ where the expert's are more than
/// -log(alpha) below its largest (arXiv:2309.09117, algorithm 2).
Tensor contrastive_decode(const Tensor& expert, const Tensor& amateur, double alpha = 0.1, double beta = 0.5);

/// Against repetition. What counts is the text so far, the prompt included.
struct Repetition {
  double penalty = 1;  ///< logits of tokens in the text are divided by it, negative ones multiplied (arXiv:1909.05858)
  double presence_penalty = 0;       ///< taken off the logits of tokens in the text
  double frequency_penalty = 0;      ///< taken off as often as the token is in the text
  int64_t no_repeat_ngram_size = 0;  ///< no run of so many tokens comes twice; 0: any may
  bool any() const;
};
/// logits [b, c] with that done. text: int64 [b, n]; row i's tokens are those from place start[i] (int64 [b];
/// undefined: 0) up to length (int64 [1], on the text's device). What is elsewhere does not count.
Tensor discourage(const Tensor& logits, const Repetition& how, const Tensor& text, const Tensor& start,
                  const Tensor& length);
void check_repetition(const char* owner, const Repetition& how);

/// One token a row, int64 [b, 1]: the likeliest where temperature is 0, else drawn from
/// softmax(filter(logits) / temperature). Logits that are not numbers are an error on the CPU; on a GPU, which is not
/// waited for, the row's token is c.
Tensor sample(const Tensor& logits, double temperature, const FilterLogitsFn& filter, Generator& generator);

/// Tokens after the first eos of each row become pad_value. tokens: int64 [b, n]
Tensor pad_after_eos(const Tensor& tokens, int64_t eos, int64_t pad_value);

}  // namespace weft::xt
