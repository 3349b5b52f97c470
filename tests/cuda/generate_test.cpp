// Generation by a recorded step against the same step call by call, and against reading the whole text each time.
#include "cuda/gpu.h"
#include "nn/xt_support.h"

#include <weft/nn/xt.h>
#include <weft/ops/reduce.h>

using namespace weft;
using namespace weft::test;
using namespace weft::xt;

namespace {

constexpr int64_t kTokens = 37;

std::shared_ptr<TransformerWrapper> model(const char* options, TransformerWrapperConfig c = {}) {
  c.num_tokens = kTokens, c.max_seq_len = 40;
  return small_model(options, c);
}

// Greedy and drawn: recorded, call by call, and without a cache.
void check_same(AutoregressiveWrapper& wrapper, const Tensor& prompts, int64_t steps, GenerateOptions options) {
  for (const double temperature : {0.0, 1.0}) {
    options.temperature = temperature;
    const auto made = [&](std::optional<bool> capture, bool cache, Generator& g) {
      options.capture = capture, options.cache_kv = cache, options.generator = &g;
      return wrapper.generate(prompts, steps, options).to_vector<int64_t>();
    };
    Generator a(3), b(3), c(3);
    const auto recorded = made(true, true, a);
    CHECK(recorded == made(false, true, b));
    CHECK(recorded == made({}, false, c));
    CHECK(a.state() == b.state());
    CHECK(a.state() == c.state());
  }
}

}  // namespace

TEST_CASE("generate: a recorded step makes the same text") {
  NEEDS_GPU();
  for (const char* options : kCacheableOptions) {
    CAPTURE(std::string(options));
    manual_seed(21);
    AutoregressiveWrapper wrapper(model(options));
    const Tensor prompts = randint(0, kTokens, {3, 6});
    check_same(wrapper, prompts, 12, {});
    check_same(wrapper, prompts, 12, {.prompt_lens = tensor(std::vector<int64_t>{6, 2, 4}).to(Device::cuda())});
  }
}

TEST_CASE("generate: a recorded step with memories, a context, an amateur, repetition controls, past max_seq_len") {
  NEEDS_GPU();
  manual_seed(22);
  const Tensor prompts = randint(0, kTokens, {2, 5});
  AutoregressiveWrapper memory(model(R"({"rotary_pos_emb": true, "rotary_emb_dim": 4})", {.num_memory_tokens = 3}));
  check_same(memory, prompts, 39, {});
  AutoregressiveWrapper crossing(model(R"({"cross_attend": true, "attn_num_mem_kv": 1, "shift_tokens": 1})"));
  check_same(crossing, prompts, 10, {.call = {.context = randn({2, 5, 12}, {.dtype = float64})}});
  AutoregressiveWrapper plain(model("{}"));
  check_same(plain, prompts, 14, {.amateurs = {{model(R"({"depth": 1})")}}});
  check_same(plain, prompts, 14, {.repetition = {.penalty = 1.2, .frequency_penalty = 0.3, .no_repeat_ngram_size = 2}});
  for (const FilterLogitsFn& filter : {FilterLogitsFn([](const Tensor& l) { return top_p(l, 0.7); }),
                                       FilterLogitsFn([](const Tensor& l) { return min_p(l, 0.2); }),
                                       FilterLogitsFn([](const Tensor& l) { return top_a(l); })})
    check_same(plain, prompts, 14, {.filter_logits_fn = filter});
}

TEST_CASE("generate: end tokens are found late and cut in time") {
  NEEDS_GPU();
  manual_seed(23);
  AutoregressiveWrapper wrapper({.net = model("{}"), .pad_value = 7});
  const Tensor prompts = randint(0, kTokens, {2, 5});
  for (int64_t eos = 0; eos < kTokens; eos += 3) {
    CAPTURE(eos);
    check_same(wrapper, prompts, 34, {.eos_token = eos});
  }
  int64_t calls = 0;
  const Tensor made = wrapper.generate(prompts, 20, {.on_token = [&](const Tensor& t) {
                                         CHECK(t.shape() == Shape{2});
                                         ++calls;
                                       }});
  CHECK(calls == made.size(1));
}

TEST_CASE("generate: a step that waits for the device runs as it is, or is an error where it must be recorded") {
  NEEDS_GPU();
  manual_seed(24);
  AutoregressiveWrapper wrapper(model("{}"));
  const Tensor prompts = randint(0, kTokens, {2, 5});
  int64_t calls = 0;
  const FilterLogitsFn waits = [&](const Tensor& l) {
    ++calls;
    return l + amax(l).item() * 0;
  };
  Generator a(1), b(1);
  const auto made = wrapper.generate(prompts, 16, {.filter_logits_fn = waits, .generator = &a}).to_vector<int64_t>();
  CHECK(calls >= 16);
  CHECK(made == wrapper.generate(prompts, 16, {.filter_logits_fn = waits, .generator = &b, .capture = false})
                    .to_vector<int64_t>());
  CHECK(a.state() == b.state());
  CHECK(message_of([&] {
          wrapper.generate(prompts, 16, {.filter_logits_fn = waits, .capture = true});
        }).find("waits for the device") != std::string::npos);
}

TEST_CASE("generate: beams by recorded steps") {
  NEEDS_GPU();
  for (const char* options : {R"({})", R"({"cross_attend": true, "shift_tokens": 1})"}) {
    CAPTURE(std::string(options));
    manual_seed(26);
    const std::string text = options;
    AutoregressiveWrapper wrapper(model(options));
    const Tensor prompts = randint(0, kTokens, {2, 5});
    BeamSearchOptions given{.beams = 3, .eos_token = 4, .length_penalty = 0.7};
    if (text != "{}") given.call.context = randn({2, 6, 12}, {.dtype = float64});
    const auto search = [&](std::optional<bool> capture, bool cache) {
      given.capture = capture, given.cache_kv = cache;
      return wrapper.beam_search(prompts, 30, given);
    };
    const Beams recorded = search(true, true), plain = search(false, true), anew = search({}, false);
    CHECK(different_bits(recorded.tokens, plain.tokens) == 0);
    CHECK(different_bits(recorded.scores, plain.scores) == 0);
    CHECK(different_bits(recorded.tokens, anew.tokens) == 0);
  }
}

TEST_CASE("generate: half types and the default device's model") {
  NEEDS_GPU();
  manual_seed(25);
  const auto net = model(R"({"attn_flash": true, "rotary_pos_emb": true, "rotary_emb_dim": 4})");
  net->to(bfloat16);
  AutoregressiveWrapper wrapper(net);
  const Tensor prompts = randint(0, kTokens, {2, 5});
  Generator a(1), b(1);
  CHECK(wrapper.generate(prompts, 30, {.generator = &a, .capture = true}).to_vector<int64_t>() ==
        wrapper.generate(prompts, 30, {.generator = &b, .capture = false}).to_vector<int64_t>());
}
