// AutoregressiveWrapper::beam_search: the likeliest texts, several kept at a time.
#include <weft/autograd/autograd.h>
#include <weft/nn/eval_mode.h>
#include <weft/nn/xt/autoregressive_wrapper.h>
#include <weft/nn/xt/generation.h>
#include <weft/nn/xt/next_token.h>
#include <weft/nn/xt/places.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/index.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>
#include <weft/ops/softmax.h>
#include <weft/ops/sort.h>

#include <cmath>

namespace weft::xt {
namespace {

constexpr double kNone = -std::numeric_limits<double>::infinity();

// x [b, k, ...] → [b, j, ...], entry j of each row being entry which[b, j] of it.
Tensor pick(const Tensor& x, const Tensor& which) {
  Tensor index = which;
  for (int64_t d = 2; d < x.dim(); ++d) index = unsqueeze(index, -1);
  Shape shape = x.shape();
  shape[1] = which.size(1);
  return gather(x, 1, expand(index, shape));
}

class BeamSearch {
 public:
  BeamSearch(const TransformerWrapper& net, const Prompts& prompts, int64_t seq_len, int64_t pad_value,
             const BeamSearchOptions& options);
  Beams run();

 private:
  void advance(const Tensor& logits);
  bool ended() const;
  Beams result();
  Tensor over_length(const Tensor& sums, const Tensor& lengths) const {
    return sums / pow(lengths.to(float64), options_.length_penalty);
  }

  const BeamSearchOptions& options_;
  const int64_t b_, t_, beams_, seq_len_;
  NextToken next_;
  Tensor start_;
  CapturedStep captured_;
  int64_t made_ = 0, steps_left_ = 0;
  // On the device, in places that stay. The unfinished, and the best of the finished:
  Tensor text_;                    // [b, beams, t + seq_len], filled with pad_value
  Tensor length_;                  // [1], tokens of it that are there
  Tensor token_;                   // [b · beams, 1], the last ones
  Tensor sums_;                    // [b, beams], Σ log p
  Tensor done_text_, done_score_;  // [b, beams, seq_len], [b, beams]
  Tensor done_length_;             // [b, beams], end token counted
  Tensor first_row_;               // [b, 1], where each row's beams begin among the b · beams
};

BeamSearch::BeamSearch(const TransformerWrapper& net, const Prompts& prompts, int64_t seq_len, int64_t pad_value,
                       const BeamSearchOptions& options)
    : options_(options),
      b_(prompts.tokens.size(0)),
      t_(prompts.tokens.size(1)),
      beams_(options.beams),
      seq_len_(seq_len),
      next_(net, {.call = prompts.call,
                  .cache_kv = options.cache_kv,
                  .restrict_to_max_seq_len = options.restrict_to_max_seq_len,
                  .capacity = t_ + seq_len}),
      captured_([this] { advance(next_.step(token_)); }, prompts.tokens.device(), options.capture) {
  const Device device = prompts.tokens.device();
  const TensorOptions ids{.dtype = int64, .device = device}, numbers{.dtype = float64, .device = device};
  const Tensor padding = full({b_, beams_, seq_len}, pad_value, ids);
  text_ = cat({expand(unsqueeze(prompts.tokens.to(int64), 1), {b_, beams_, t_}), padding}, 2);
  if (prompts.start.defined()) start_ = repeat_interleave(prompts.start, beams_, 0);
  length_ = full({1}, t_, ids), token_ = zeros({b_ * beams_, 1}, ids);
  // All beams of a row begin alike: only the first counts.
  sums_ = expand(where(eq(places(0, beams_, device), 0), zeros({1}, numbers), kNone), {b_, beams_}).clone();
  done_text_ = padding, done_score_ = full({b_, beams_}, kNone, numbers), done_length_ = zeros({b_, beams_}, ids);
  first_row_ = unsqueeze(places(0, b_, device) * beams_, 1);
}

// One more token for all of them. logits: [b · beams, c]. Nothing but the device's memory changes.
void BeamSearch::advance(const Tensor& given) {
  Tensor logits = given;
  if (options_.repetition.any())
    logits = discourage(logits, options_.repetition, flatten(text_, 0, 1), start_, length_);
  const int64_t c = logits.size(1), count = std::min(2 * beams_, beams_ * c);  // half of them may end here
  const Tensor sums = unflatten(log_softmax(logits.to(float64), -1), 0, {b_, beams_}) + unsqueeze(sums_, -1);
  const auto [best, index] = topk(flatten(sums, 1, 2), count);  // [b, count]
  const Tensor from = floor_divide(index, c), token = remainder(index, c);
  Tensor longer = pick(text_, from);  // [b, count, t + seq_len]
  index_copy_(longer, 2, length_, unsqueeze(token, -1));

  Tensor unfinished = best;
  if (options_.eos_token) {
    const Tensor ends = eq(token, *options_.eos_token), length = expand(length_ - (t_ - 1), {b_, count});
    const Tensor scores = cat({done_score_, where(ends, over_length(best, length), kNone)}, 1);
    const auto [kept, which] = topk(scores, beams_);
    done_text_.copy_(pick(cat({done_text_, slice(longer, 2, t_)}, 1), which));
    done_length_.copy_(pick(cat({done_length_, length}, 1), which));
    done_score_.copy_(kept);
    unfinished = masked_fill(best, ends, kNone);
  }
  const auto [kept, which] = topk(unfinished, beams_);
  sums_.copy_(kept), text_.copy_(pick(longer, which));
  token_.copy_(reshape(pick(token, which), {b_ * beams_, 1}));
  length_.copy_(length_ + 1);
  next_.reorder(flatten(pick(from, which) + first_row_), true);
}

// Whether no unfinished text can come among the finished ones any more: it only loses by each token.
bool BeamSearch::ended() const {
  if (!options_.eos_token) return false;
  const Tensor length = options_.length_penalty > 0 ? full({1}, seq_len_, {.dtype = int64, .device = text_.device()})
                                                    : length_ - (t_ - 1);
  return all(ge(amin(done_score_, 1), over_length(amax(sums_, 1), length))).item<bool>();
}

Beams BeamSearch::run() {
  while (made_ < seq_len_) {
    if (steps_left_ > 0) {
      captured_.run(steps_left_--);
    } else if (made_ == 0) {  // one row a prompt: read once
      const Tensor logits = next_(select(slice(text_, 2, 0, t_), 1, 0));
      const Tensor order = repeat_interleave(places(0, b_, text_.device()), beams_, 0);
      next_.reorder(order);
      advance(index_select(logits, 0, order));
      steps_left_ = std::min(seq_len_ - 1, next_.steps());
      if (steps_left_ > 0) next_.fix(steps_left_);
    } else {
      advance(next_(flatten(slice(text_, 2, 0, t_ + made_), 0, 1)));
    }
    ++made_;
    if ((text_.device().is_cpu() || made_ % kStepsACheck == 0 || steps_left_ == 0) && ended()) break;
  }
  return result();
}

// The finished, and the unfinished that have reached seq_len.
Beams BeamSearch::result() {
  const Tensor length = expand(length_ - t_, {b_, beams_});
  const Tensor unfinished = made_ == seq_len_ ? over_length(sums_, clamp_min(length, 1)) : full_like(sums_, kNone);
  const auto [scores, which] = topk(cat({done_score_, unfinished}, 1), beams_);
  const Tensor tokens = pick(cat({done_text_, slice(text_, 2, t_)}, 1), which);
  const Tensor lengths = where(eq(scores, kNone), Scalar(int64_t{0}), pick(cat({done_length_, length}, 1), which));
  check(!any(isnan(scores)).item<bool>(), "beam_search: the logits are not numbers");
  return {slice(tokens, 2, 0, amax(lengths).item<int64_t>()).clone(), scores};
}

}  // namespace

Beams AutoregressiveWrapper::beam_search(const Tensor& given, int64_t seq_len, const BeamSearchOptions& options) {
  check(options.beams > 0, "beam_search: beams must be positive, got ", options.beams);
  check_repetition("beam_search", options.repetition);
  check(given.dim() == 2, "beam_search: expected prompts [batch, length], got ", given.shape());
  const NoGrad guard;
  const EvalMode mode(*this);
  const Prompts prompts = prepare_prompts(given, seq_len, options.prompt_lens, options.call, config_.pad_value);
  return BeamSearch(*config_.net, prompts, seq_len, config_.pad_value, options).run();
}

}  // namespace weft::xt
