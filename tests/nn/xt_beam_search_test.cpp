// Beam search against a plain one, and against all texts there are.
#include <doctest/doctest.h>

#include "xt_support.h"

#include <weft/ops/softmax.h>

#include <algorithm>

using namespace weft;
using namespace weft::xt;
using namespace weft::test;

namespace {

struct Text {
  std::vector<int64_t> made;
  double sum, score;
};

void best_first(std::vector<Text>& texts, double Text::*by, size_t keep) {
  std::stable_sort(texts.begin(), texts.end(), [&](const Text& a, const Text& b) { return a.*by > b.*by; });
  if (texts.size() > keep) texts.resize(keep);
}

// Beam search as the books have it: one row, everything read anew.
std::vector<Text> plain_beams(const std::function<Tensor(const Tensor& text)>& logits, const Tensor& prompt,
                              int64_t steps, size_t beams, int64_t eos, double penalty) {
  std::vector<Text> live{{{}, 0, 0}}, done;
  for (int64_t step = 0; step < steps; ++step) {
    std::vector<Text> next, going;
    for (const Text& t : live) {
      const Tensor own = tensor(t.made, {1, static_cast<int64_t>(t.made.size())}, {.dtype = int64});
      const Tensor text = t.made.empty() ? prompt : cat({prompt, own}, 1);
      const auto p = log_softmax(select(logits(text), 1, -1), -1).to_vector<double>();
      for (size_t token = 0; token < p.size(); ++token) {
        next.push_back({t.made, t.sum + p[token], 0});
        next.back().made.push_back(static_cast<int64_t>(token));
        next.back().score = next.back().sum / std::pow(static_cast<double>(next.back().made.size()), penalty);
      }
    }
    best_first(next, &Text::sum, 2 * beams);
    for (const Text& t : next) (t.made.back() == eos ? done : going).push_back(t);
    best_first(going, &Text::sum, beams), best_first(done, &Text::score, beams);
    live = going;
  }
  done.insert(done.end(), live.begin(), live.end());
  best_first(done, &Text::score, beams);
  return done;
}

void check_beams(const Beams& got, int64_t row, const std::vector<Text>& want, int64_t pad_value) {
  const auto tokens = select(got.tokens, 0, row), scores = select(got.scores, 0, row);
  for (int64_t i = 0; i < scores.size(0); ++i) {
    CAPTURE(i);
    if (i >= static_cast<int64_t>(want.size())) {
      CHECK(select(scores, 0, i).item() == -INFINITY);
      continue;
    }
    const Text& text = want[static_cast<size_t>(i)];
    CHECK(std::abs(select(scores, 0, i).item() - text.score) < 1e-9);
    std::vector<int64_t> padded = text.made;
    REQUIRE(static_cast<int64_t>(padded.size()) <= tokens.size(1));
    padded.resize(static_cast<size_t>(tokens.size(1)), pad_value);
    CHECK(select(tokens, 0, i).to_vector<int64_t>() == padded);
  }
}

}  // namespace

TEST_CASE("xt generate: beam search against a plain one, ragged prompts, with a cache and without") {
  for (const char* options : {R"({})", R"({"rotary_pos_emb": true, "rotary_emb_dim": 4, "attn_kv_heads": 1})",
                              R"({"shift_tokens": 1, "attn_data_dependent_alibi": true})"}) {
    CAPTURE(std::string(options));
    manual_seed(32);
    const auto net = small_model(options);
    AutoregressiveWrapper wrapper({.net = net, .pad_value = 5});
    const Tensor prompts = randint(0, 11, {2, 5}), lens = tensor(std::vector<int64_t>{5, 3});
    const NoGrad guard;
    const auto read = [&](const Tensor& text) { return (*net)(text); };
    for (const auto& [beams, eos, penalty] : {std::tuple{3, 4, 1.0}, {2, 0, 0.0}, {4, 7, -0.5}, {1, 2, 2.0}}) {
      for (const bool cache : {true, false}) {
        const Beams got = wrapper.beam_search(
            prompts, 7,
            {.beams = beams, .eos_token = eos, .length_penalty = penalty, .prompt_lens = lens, .cache_kv = cache});
        for (int64_t row = 0; row < 2; ++row) {
          const Tensor prompt = slice(slice(prompts, 0, row, row + 1), 1, 0, 5 - 2 * row);
          check_beams(got, row, plain_beams(read, prompt, 7, static_cast<size_t>(beams), eos, penalty), 5);
        }
      }
    }
  }
}

TEST_CASE("xt generate: with enough beams the best texts of all are found") {
  manual_seed(33);
  const auto net = small_model("{}");
  AutoregressiveWrapper wrapper(net);
  const Tensor prompt = randint(0, 11, {1, 3});
  const int64_t eos = 6;
  const NoGrad guard;
  std::vector<Text> all;
  const auto probabilities = [&](const Tensor& text) {
    return log_softmax(select((*net)(text), 1, -1), -1).to_vector<double>();
  };
  const auto first = probabilities(prompt);
  for (int64_t a = 0; a < 11; ++a) {
    const double sum = first[static_cast<size_t>(a)];
    if (a == eos) {
      all.push_back({{a}, sum, sum});
      continue;
    }
    const auto second = probabilities(cat({prompt, full({1, 1}, a, {.dtype = int64})}, 1));
    for (int64_t b = 0; b < 11; ++b) {
      const double both = sum + second[static_cast<size_t>(b)];
      all.push_back({{a, b}, both, both / std::sqrt(2.0)});
    }
  }
  best_first(all, &Text::score, 11);
  check_beams(wrapper.beam_search(prompt, 2, {.beams = 11, .eos_token = eos, .length_penalty = 0.5}), 0, all, 0);
  // Without an end token, one beam is the greedy text; past max_seq_len too.
  const Tensor greedy = wrapper.generate(prompt, 19, {.temperature = 0});
  const Beams one = wrapper.beam_search(prompt, 19, {.beams = 1});
  CHECK(one.tokens.shape() == Shape{1, 1, 19});
  CHECK(one.tokens.to_vector<int64_t>() == greedy.to_vector<int64_t>());
  CHECK(message_of([&] { wrapper.beam_search(prompt, 2, {.beams = 0}); }) ==
        "beam_search: beams must be positive, got 0");
  CHECK(message_of([&] { wrapper.beam_search(select(prompt, 0, 0), 2); }) ==
        "beam_search: expected prompts [batch, length], got [3]");
}

TEST_CASE("xt generate: beams share a context, and repeat nothing that they must not") {
  manual_seed(34);
  const auto net = small_model(R"({"cross_attend": true, "attn_num_mem_kv": 1})");
  AutoregressiveWrapper wrapper(net);
  const Tensor prompts = randint(0, 11, {2, 3}), context = randn({2, 5, 12}, {.dtype = float64}),
               mask = mask_of(5, {5, 2});
  const NoGrad guard;
  const Beams got =
      wrapper.beam_search(prompts, 6, {.beams = 3, .eos_token = 1, .call = {.context = context, .context_mask = mask}});
  for (int64_t row = 0; row < 2; ++row) {
    const auto read = [&](const Tensor& text) {
      return (*net)(text,
                    Call{.context = slice(context, 0, row, row + 1), .context_mask = slice(mask, 0, row, row + 1)});
    };
    check_beams(got, row, plain_beams(read, slice(prompts, 0, row, row + 1), 6, 3, 1, 1.0), 0);
  }
  const Beams varied = wrapper.beam_search(
      prompts, 8, {.beams = 3, .call = {.context = context}, .repetition = {.no_repeat_ngram_size = 1}});
  for (int64_t row = 0; row < 2; ++row)
    for (int64_t beam = 0; beam < 3; ++beam) {
      auto all = cat({select(prompts, 0, row), select(select(varied.tokens, 0, row), 0, beam)}, 0).to_vector<int64_t>();
      const auto begin = all.begin() + 3;
      for (auto it = begin; it != all.end(); ++it) CHECK(std::find(all.begin(), it, *it) == it);
    }
}
