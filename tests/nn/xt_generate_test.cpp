// Generation: with a cache and without, ragged prompts, masks, filters.
#include <doctest/doctest.h>
#include <weft/autograd/structure.h>

#include "xt_support.h"

#include <weft/ops/reduce.h>
#include <weft/ops/softmax.h>
#include <weft/ops/sort.h>

#include <set>

using namespace weft;
using namespace weft::xt;
using namespace weft::test;

namespace {

// The same text with and without a cache, greedy and drawn.
void check_same(AutoregressiveWrapper& wrapper, const Tensor& prompts, int64_t steps, GenerateOptions options) {
  for (double temperature : {0.0, 1.0}) {
    Generator a(3), b(3);
    options.temperature = temperature, options.filter_logits_fn = [](const Tensor& l) { return top_k(l, 0.5); };
    options.cache_kv = true, options.generator = &a;
    const auto cached = wrapper.generate(prompts, steps, options).to_vector<int64_t>();
    options.cache_kv = false, options.generator = &b;
    CHECK(cached == wrapper.generate(prompts, steps, options).to_vector<int64_t>());
  }
}

}  // namespace

TEST_CASE("xt generate: steps with a cache give the logits of the whole text") {
  for (const char* options : kCacheableOptions) {
    CAPTURE(std::string(options));
    manual_seed(20);
    const auto net = small_model(options);
    const NoGrad guard;
    const Tensor text = randint(0, 11, {2, 9});
    const Tensor whole = (*net)(text);
    Cache cache(4);  // smaller than the text: it grows
    Tensors parts;
    for (const auto& [from, to] : {std::pair{0, 4}, {4, 5}, {5, 8}, {8, 9}})
      parts.push_back((*net)(slice(text, 1, from, to), Call{.cache = &cache}));
    CHECK(difference(cat(parts, 1), whole) < 1e-10);
  }
}

TEST_CASE("xt generate: a fixed cache gives the same logits, from memory that stays where it is") {
  for (const char* options : kCacheableOptions) {
    CAPTURE(std::string(options));
    manual_seed(19);
    const auto net = small_model(options);
    const NoGrad guard;
    const Tensor text = randint(0, 11, {2, 9});
    const Tensor mask = tensor(std::vector<bool>{true, false, true, true, true, true}, {2, 3});
    for (const bool masked : {false, true}) {
      Call first;
      if (masked) first.mask = mask;
      const Tensor whole = (*net)(text, masked ? Call{.mask = pad(mask, {0, 6}, 1)} : Call{});
      Cache cache(2);
      first.cache = &cache;
      Tensors parts{(*net)(slice(text, 1, 0, 3), first)};
      cache.fix(7, default_device());  // one more than is used
      const void* keys = cache.layer(0).k.get().raw_data();
      for (const auto& [from, to] : {std::pair{3, 4}, {4, 7}, {7, 8}, {8, 9}})
        parts.push_back((*net)(slice(text, 1, from, to), Call{.cache = &cache}));
      CHECK(difference(cat(parts, 1), whole) < 1e-10);
      CHECK(cache.layer(0).k.get().raw_data() == keys);
      CHECK(cache.layer(0).k.get().size(2) % 10 <= 2);  // 10 places and learned keys
      CHECK(cache.length() == 3);
      (*net)(slice(text, 1, 0, 1), Call{.cache = &cache});
      CHECK(message_of([&] {
              (*net)(slice(text, 1, 0, 1), Call{.cache = &cache}).sum().item();
            }).find("out of range") != std::string::npos);
    }
  }
}

TEST_CASE("xt generate: cached text equals uncached text, with ragged prompts and masks, and past max_seq_len") {
  for (const char* options : kCacheableOptions) {
    CAPTURE(std::string(options));
    manual_seed(21);
    AutoregressiveWrapper wrapper(small_model(options));
    const Tensor prompts = randint(0, 11, {3, 6});
    check_same(wrapper, prompts, 18, {});
    check_same(wrapper, prompts, 6, {.prompt_lens = tensor(std::vector<int64_t>{6, 2, 4})});
    const Tensor holes = logical_not(logical_and(eq(arange(6), 2), eq(reshape(arange(3), {3, 1}), 1)));
    check_same(wrapper, prompts, 6, {.call = {.mask = holes}});
  }
}

TEST_CASE("xt generate: a ragged prompt continues as it would alone") {
  for (const char* options : kCacheableOptions) {
    CAPTURE(std::string(options));
    if (std::string(options).find("selective") != std::string::npos) continue;  // it favours place 0
    manual_seed(22);
    AutoregressiveWrapper wrapper(small_model(options));
    const Tensor prompts = randint(0, 11, {2, 5});
    const std::vector<int64_t> lens{3, 5};
    const Tensor together = wrapper.generate(prompts, 8, {.temperature = 0, .prompt_lens = tensor(lens)});
    for (int64_t i = 0; i < 2; ++i) {
      const Tensor alone = slice(select(prompts, 0, i), 0, 0, lens[static_cast<size_t>(i)]);
      CHECK(wrapper.generate(alone, 8, {.temperature = 0}).to_vector<int64_t>() ==
            select(together, 0, i).to_vector<int64_t>());
    }
  }
}

TEST_CASE("xt generate: memory tokens, cross-attention and prepended embeddings with a cache") {
  manual_seed(23);
  const Tensor prompts = randint(0, 11, {2, 4}), lens = tensor(std::vector<int64_t>{4, 2});
  AutoregressiveWrapper memory(
      small_model(R"({"rotary_pos_emb": true, "rotary_emb_dim": 4})", {.num_memory_tokens = 3}));
  check_same(memory, prompts, 6, {});
  check_same(memory, prompts, 6, {.prompt_lens = lens});
  const Tensor embeds = randn({2, 3, 12}, {.dtype = float64});
  check_same(memory, prompts, 6, {.call = {.prepend_embeds = embeds, .prepend_mask = mask_of(3, {3, 1})}});
  AutoregressiveWrapper interspersed(
      small_model("{}", {.num_memory_tokens = 2, .memory_tokens_interspersed_every = 3}));
  check_same(interspersed, prompts, 5, {});
  for (const char* options : {R"({"cross_attend": true})", R"({"cross_attend": true, "add_value_residual": true,
                              "attn_num_mem_kv": 1, "shift_tokens": 1})"}) {
    AutoregressiveWrapper crossing(small_model(options));
    const Tensor context = randn({2, 5, 12}, {.dtype = float64});
    check_same(crossing, prompts, 6, {.call = {.context = context, .context_mask = mask_of(5, {5, 2})}});
    check_same(crossing, prompts, 6, {.prompt_lens = lens, .call = {.context = context}});
  }
}

TEST_CASE("xt generate: what else may lie between tokens and layers, with a cache and without") {
  manual_seed(18);
  const Tensor prompts = randint(0, 11, {2, 5}), lens = tensor(std::vector<int64_t>{5, 2});
  // Recycling: each pass keeps its own keys.
  AutoregressiveWrapper recycling(small_model(R"({"shift_tokens": 1, "attn_selective": true})", {.recycling = true}));
  CHECK(recycling.net().can_cache_kv());
  check_same(recycling, prompts, 18, {.call = {.recycle_steps = 3}});
  check_same(recycling, prompts, 6, {.prompt_lens = lens, .call = {.recycle_steps = 2}});
  // Memory tokens in front of every third token.
  for (const char* options : {R"({})", R"({"rotary_pos_emb": true, "rotary_emb_dim": 4, "attn_max_attend_past": 4})"}) {
    AutoregressiveWrapper interspersed(
        small_model(options, {.num_memory_tokens = 2, .memory_tokens_interspersed_every = 3}));
    CHECK(interspersed.net().can_cache_kv());
    check_same(interspersed, prompts, 18, {});
    check_same(interspersed, prompts, 6, {.prompt_lens = lens});
    const Tensor embeds = randn({2, 2, 12}, {.dtype = float64});
    check_same(interspersed, prompts, 6, {.call = {.prepend_embeds = embeds, .prepend_mask = mask_of(2, {2, 1})}});
  }
  // A prefix that sees all of itself.
  for (const char* options : {R"({})", R"({"rel_pos_bias": true})",
                              R"({"attn_pre_talking_heads": true, "attn_data_dependent_alibi": true})"}) {
    CAPTURE(std::string(options));
    TransformerWrapperConfig c{.num_tokens = 11, .max_seq_len = 20};
    c.attn_layers = make<PrefixDecoder>(small_layers(options));
    AutoregressiveWrapper wrapper(std::make_shared<TransformerWrapper>(c));
    prepare(wrapper);
    CHECK(wrapper.net().can_cache_kv());
    for (const auto& prefix : {std::vector<int64_t>{3, 5}, {0, 1}, {2, 7}})  // the last goes beyond the prompt
      check_same(wrapper, prompts, 17, {.call = {.prefix_attn_len = tensor(prefix)}});
  }
  const auto shifted = make<PrefixDecoder>(small_layers(R"({"shift_tokens": 1})"));
  CHECK_FALSE(shifted->can_cache_kv());
  // Left padding by a mask, memories of earlier text.
  const auto net = small_model(R"({"alibi_pos_bias": true, "attn_num_mem_kv": 1})", {.max_mem_len = 5});
  AutoregressiveWrapper wrapper(net);
  const Tensor left = logical_not(logical_and(lt(arange(5), 2), eq(reshape(arange(2), {2, 1}), 1)));
  check_same(wrapper, prompts, 18, {.call = {.mask = left}});
  const NoGrad guard;
  const Tensors mems = net->run(randint(0, 11, {2, 6}), Call{.return_mems = true}).mems;
  check_same(wrapper, prompts, 10, {.call = {.mems = mems}});
  check_same(wrapper, prompts, 10, {.prompt_lens = lens, .call = {.mems = mems}});
}

TEST_CASE("xt generate: Transformer-XL memories with a cache") {
  manual_seed(24);
  const auto net =
      small_model(R"({"rotary_pos_emb": true, "rotary_emb_dim": 4, "attn_num_mem_kv": 1})", {.max_mem_len = 5});
  const NoGrad guard;
  const Tensor text = randint(0, 11, {2, 7});
  const Tensors mems = net->run(randint(0, 11, {2, 6}), Call{.return_mems = true}).mems;
  REQUIRE(mems.size() == 2);
  CHECK(mems[0].shape() == Shape{2, 5, 12});
  const Tensors masks{mask_of(5, {5, 2}), mask_of(5, {5, 2})};
  const Tensor whole = (*net)(text, Call{.mems = mems, .mem_masks = masks});
  Cache cache;
  const Tensor first = (*net)(slice(text, 1, 0, 3), Call{.mems = mems, .mem_masks = masks, .cache = &cache});
  const Tensor second = (*net)(slice(text, 1, 3), Call{.cache = &cache});
  CHECK(difference(cat({first, second}, 1), whole) < 1e-10);
}

TEST_CASE("xt generate: caches can be cut and reordered") {
  manual_seed(25);
  const auto net = small_model(R"({"rotary_pos_emb": true, "rotary_emb_dim": 4, "attn_data_dependent_alibi": true})");
  const NoGrad guard;
  const Tensor text = randint(0, 11, {2, 8});
  Cache cache;
  (*net)(text, Call{.cache = &cache});
  cache.truncate(5);
  CHECK(difference((*net)(slice(text, 1, 5), Call{.cache = &cache}), slice((*net)(text), 1, 5)) < 1e-10);
  cache.truncate(5), cache.reorder(tensor(std::vector<int64_t>{1, 1}));
  const Tensor swapped = (*net)(slice(text, 1, 5), Call{.cache = &cache});
  CHECK(difference(slice(swapped, 0, 1), slice((*net)(text), 0, 1).slice(1, 5)) < 1e-10);
}

TEST_CASE("xt generate: eos ends rows, one-dimensional prompts, tokens as they come") {
  manual_seed(26);
  AutoregressiveWrapper wrapper({.net = small_model("{}"), .pad_value = 7});
  std::vector<int64_t> seen;
  const auto keep = [&](const Tensor& t) { seen.push_back(t.item<int64_t>()); };
  const Tensor made = wrapper.generate(tensor(std::vector<int64_t>{1, 2}), 5, {.temperature = 0, .on_token = keep});
  CHECK(made.to_vector<int64_t>() == seen);
  const int64_t eos = seen[1];
  const auto ended = wrapper.generate(tensor(std::vector<int64_t>{1, 2}), 5, {.eos_token = eos, .temperature = 0});
  CHECK(ended.size(0) <= 2);
  CHECK(message_of([&] {
          wrapper.generate(zeros({1, 0}, {.dtype = int64}), 3);
        }) == "generate: expected prompts of length above 0 and seq_len >= 0, got [1, 0] and 3");
  CHECK(message_of([&] {
          wrapper.generate(zeros({1, 2}, {.dtype = int64}), 3, {.call = {.mask = mask_of(2, {1})}});
        }) == "generate: a prompt ends in masked tokens: give its prompt_lens");
}

TEST_CASE("xt generate: filters refuse what has no meaning") {
  const Tensor logits = randn({2, 5});
  CHECK(message_of([&] { top_k(logits, 0.5, 0); }) == "top_k: 0 tokens would be kept");
  CHECK(message_of([&] { top_p(logits, 1.5); }) == "top_p: thres must be in (0, 1], got 1.5");
  CHECK(message_of([&] { min_p(logits, 1.5); }) == "min_p: min_p must be in [0, 1], got 1.5");
  CHECK(message_of([&] { top_a(logits, -1); }) == "top_a: min_p_pow must not be negative, got -1");
  CHECK(message_of([&] { top_a(logits, 1, 2); }) == "top_a: min_p_ratio must be in [0, 1], got 2");
  CHECK(message_of([&] { min_p(logits[0]); }) == "top_a: expected logits [batch, tokens], got float32 [5]");
  CHECK(message_of([&] { sample(logits, 1, nullptr, default_generator()); }).empty());
}

TEST_CASE("xt generate: contrastive decoding has the original's numbers") {
  const double never = -INFINITY;
  const Tensor expert = tensor(std::vector<double>{1, 2.5, -0.5, 2, 0.1, 0.2, 3, -1}, {2, 4}),
               amateur = tensor(std::vector<double>{0.5, 3, -1, 0.25, 1, -2, 2, 0}, {2, 4});
  CHECK(contrastive_decode(expert, amateur).to_vector<double>() ==
        std::vector<double>{1.25, 2.25, never, 2.875, never, never, 3.5, never});
  CHECK(contrastive_decode(expert, amateur, 0.3, 1).to_vector<double>() ==
        std::vector<double>{never, 2, never, 3.75, never, never, 4, never});
  CHECK(message_of([&] { contrastive_decode(expert, slice(amateur, 1, 1)); }) ==
        "contrastive_decode: the expert gives logits [2, 4], the amateur [2, 3]");
  CHECK(message_of([&] { contrastive_decode(expert, amateur, 0); }) ==
        "contrastive_decode: alpha must be in (0, 1], got 0");
}

TEST_CASE("xt generate: contrastive decoding step by step, with a cache and without") {
  manual_seed(28);
  const auto expert = small_model(R"({"rotary_pos_emb": true, "rotary_emb_dim": 4})"), first = small_model("{}"),
             second = small_model(R"({"depth": 1, "alibi_pos_bias": true})");
  AutoregressiveWrapper wrapper(expert);
  const Tensor prompts = randint(0, 11, {2, 5});
  GenerateOptions options{.amateurs = {{first}, {second, 0.2, 0.7}}};
  check_same(wrapper, prompts, 18, options);
  check_same(wrapper, prompts, 6, {.prompt_lens = tensor(std::vector<int64_t>{2, 5}), .amateurs = {{second}}});

  options.temperature = 0;
  const auto made = wrapper.generate(prompts, 4, options).to_vector<int64_t>();
  const NoGrad guard;
  Tensor text = prompts;
  for (int64_t i = 0; i < 4; ++i) {
    const auto last = [&](const auto& net) { return select((*net)(text), 1, -1); };
    const Tensor logits = contrastive_decode(contrastive_decode(last(expert), last(first)), last(second), 0.2, 0.7);
    text = cat({text, argmax(logits, -1, keepdim)}, 1);
  }
  CHECK(made == slice(text, 1, 5).to_vector<int64_t>());
  CHECK(message_of([&] { wrapper.generate(prompts, 2, {.amateurs = {{nullptr}}}); }) ==
        "generate: an amateur has no net");
}

TEST_CASE("xt generate: repetition is discouraged as a plain loop does it") {
  manual_seed(29);
  const int64_t b = 3, n = 12, c = 5, length = 10;
  const std::vector<int64_t> start{0, 2, 7};
  const Tensor text = randint(0, c, {b, n}), logits = randn({b, c});
  const auto tokens = text.to_vector<int64_t>();
  const auto given = logits.to_vector<float>();
  for (const Repetition& how :
       {Repetition{.penalty = 1.5}, Repetition{.presence_penalty = 0.5, .frequency_penalty = 0.25},
        Repetition{.no_repeat_ngram_size = 1}, Repetition{.no_repeat_ngram_size = 2},
        Repetition{.no_repeat_ngram_size = 3}, Repetition{.no_repeat_ngram_size = 11},
        Repetition{.penalty = 2, .frequency_penalty = -0.5, .no_repeat_ngram_size = 2}}) {
    CAPTURE(how.no_repeat_ngram_size);
    const auto got =
        discourage(logits, how, text, tensor(start), tensor(std::vector<int64_t>{length})).to_vector<float>();
    for (int64_t i = 0; i < b; ++i) {
      const auto at = [&](int64_t j) { return tokens[static_cast<size_t>(i * n + j)]; };
      for (int64_t token = 0; token < c; ++token) {
        float want = given[static_cast<size_t>(i * c + token)];
        int64_t count = 0;
        for (int64_t j = start[static_cast<size_t>(i)]; j < length; ++j) count += at(j) == token;
        if (count > 0) {
          want = static_cast<float>(want > 0 ? want / how.penalty : want * how.penalty);
          want -= static_cast<float>(how.presence_penalty + how.frequency_penalty * static_cast<double>(count));
        }
        const int64_t run = how.no_repeat_ngram_size;
        for (int64_t j = start[static_cast<size_t>(i)]; run > 0 && j + run <= length; ++j) {
          bool same = at(j + run - 1) == token;
          for (int64_t e = 0; e < run - 1; ++e) same &= at(j + e) == at(length - run + 1 + e);
          if (same) want = -INFINITY;
        }
        const float value = got[static_cast<size_t>(i * c + token)];
        CHECK((value == want || std::abs(value - want) < 1e-5));
      }
    }
  }
}

TEST_CASE("xt generate: texts without repetition, with a cache and without") {
  manual_seed(30);
  AutoregressiveWrapper wrapper(small_model(R"({"rotary_pos_emb": true, "rotary_emb_dim": 4})"));
  const Tensor prompts = randint(0, 11, {2, 4}), lens = tensor(std::vector<int64_t>{2, 4});
  const Repetition how{.penalty = 1.3, .frequency_penalty = 0.1, .no_repeat_ngram_size = 2};
  check_same(wrapper, prompts, 20, {.repetition = how});
  check_same(wrapper, prompts, 12, {.prompt_lens = lens, .repetition = how});
  // A row of a batch is what it is alone, and no pair of tokens comes twice.
  const GenerateOptions options{.temperature = 0, .repetition = how};
  GenerateOptions ragged = options;
  ragged.prompt_lens = lens;
  const Tensor together = wrapper.generate(prompts, 12, ragged);
  for (int64_t i = 0; i < 2; ++i) {
    const Tensor alone = slice(select(prompts, 0, i), 0, 0, 2 + 2 * i), made = wrapper.generate(alone, 12, options);
    CHECK(made.to_vector<int64_t>() == select(together, 0, i).to_vector<int64_t>());
    const auto all = cat({alone, made}, 0).to_vector<int64_t>();
    std::set<std::pair<int64_t, int64_t>> pairs;
    for (size_t j = 1; j < all.size(); ++j) {
      const bool fresh = pairs.insert({all[j - 1], all[j]}).second;
      CHECK((fresh || static_cast<int64_t>(j) < alone.size(0)));
    }
  }
  CHECK(message_of([&] { wrapper.generate(prompts, 2, {.repetition = {.penalty = 0}}); }) ==
        "generate: the repetition penalty must be positive, got 0");
  CHECK(message_of([&] { wrapper.generate(prompts, 2, {.repetition = {.no_repeat_ngram_size = -1}}); }) ==
        "generate: no_repeat_ngram_size must not be negative, got -1");
}

TEST_CASE("xt generate: what draws from one generator leaves the others alone, and follows from its state") {
  manual_seed(31);
  AutoregressiveWrapper wrapper({.net = small_model("{}"), .pad_value = 3});
  const Tensor prompts = randint(0, 11, {2, 4});
  const Generator::State before = default_generator().state();
  Generator own(5), again(5);
  const auto made = wrapper.generate(prompts, 6, {.generator = &own}).to_vector<int64_t>();
  CHECK(default_generator().state() == before);
  CHECK(own.state().offset > 0);
  default_generator().set_state(again.state());
  CHECK(wrapper.generate(prompts, 6).to_vector<int64_t>() == made);
  CHECK(default_generator().state() == own.state());
  // Logits that are not numbers.
  const FilterLogitsFn none = [](const Tensor& l) { return full_like(l, -INFINITY); };
  CHECK(message_of([&] {
          wrapper.generate(prompts, 3, {.filter_logits_fn = none});
        }).find("the logits are not numbers") != std::string::npos);
}

TEST_CASE("xt generate: masks move with ragged prompts, greedy steps see bad logits, ended rows do not stop others") {
  manual_seed(41);
  AutoregressiveWrapper wrapper({.net = small_model("{}"), .pad_value = 3});
  const Tensor prompts = randint(0, 11, {2, 5}), lens = tensor(std::vector<int64_t>{5, 3});
  const Tensor mask = tensor(std::vector<bool>{true, true, true, true, true, false, true, true, false, false}, {2, 5});
  const Tensor together = wrapper.generate(prompts, 6, {.temperature = 0, .prompt_lens = lens, .call = {.mask = mask}});
  const Tensor alone = wrapper.generate(prompts.slice(0, 1, 2).slice(1, 0, 3), 6,
                                        {.temperature = 0, .call = {.mask = mask.slice(0, 1, 2).slice(1, 0, 3)}});
  CHECK(together.slice(0, 1, 2).to_vector<int64_t>() == alone.to_vector<int64_t>());
  // Eleven tokens, none of which may come twice.
  GenerateOptions once{.temperature = 0};
  once.repetition.no_repeat_ngram_size = 1;
  CHECK(message_of([&] { wrapper.generate(prompts, 15, once); }).find("the logits are not numbers") !=
        std::string::npos);
  CHECK(message_of([&] {
          sample(full({1, 4}, std::nan(""), {.device = Device::cpu()}), 0, nullptr, default_generator());
        }) != "");
  // With an end: one row of a single token ends late or never, the other early; neither stops the other.
  const Tensor two = tensor(std::vector<int64_t>{4, 5, 6, 7, 8, 4, 0, 0, 0, 0}, {2, 5}),
               sizes = tensor(std::vector<int64_t>{5, 1});
  once.temperature = 1, once.filter_logits_fn = nullptr, once.eos_token = 0, once.prompt_lens = sizes;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    Generator g(seed);
    once.generator = &g;
    CHECK(message_of([&] { wrapper.generate(two, 12, once); }) == "");
  }
  CHECK(message_of([&] {
          wrapper.generate(prompts, 3, {.call = {.sum_embeds = zeros({2, 5, 12})}});
        }).find("none for those to come") != std::string::npos);
}

TEST_CASE("xt generate: a fixed cache counts places once in wrappers of vectors and of several inputs") {
  manual_seed(43);
  const NoGrad guard;
  const auto layers = [] { return make<Decoder>({.dim = 12, .depth = 2, .heads = 2, .attn_dim_head = 6}); };
  const auto check = [](const Tensor& whole, auto&& read) {  // read(from, to, cache): that part of the output
    Cache cache;
    Tensors parts{read(0, 5, cache)};
    cache.fix(7, default_device());
    for (int64_t i = 5; i < 12; ++i) parts.push_back(read(i, i + 1, cache));
    CHECK(difference(cat(parts, 1), whole) < 1e-5);
  };
  const ContinuousTransformerWrapper vectors({.dim_in = 3, .dim_out = 4, .max_seq_len = 16, .attn_layers = layers()});
  const Tensor x = randn({2, 12, 3});
  check(vectors(x),
        [&](int64_t from, int64_t to, Cache& cache) { return vectors(slice(x, 1, from, to), Call{.cache = &cache}); });
  const MultiInputTransformerWrapper several(
      {.num_tokens = {{"a", 7}, {"b", 5}}, .max_seq_len = 16, .attn_layers = layers()});
  const Tensor a = randint(0, 7, {2, 12}), b = randint(0, 5, {2, 12});
  check(several({{"a", a}, {"b", b}}).logits[1].second, [&](int64_t from, int64_t to, Cache& cache) {
    return several({{"a", slice(a, 1, from, to)}, {"b", slice(b, 1, from, to)}}, Call{.cache = &cache})
        .logits[1]
        .second;
  });
}

TEST_CASE("xt generate: wrong caches are errors") {
  CHECK(message_of([] { Cache cache(0); }) == "Cache: capacity must be positive, got 0");
  manual_seed(42);
  const auto net = small_model("{}", {.num_memory_tokens = 2, .memory_tokens_interspersed_every = 3});
  const NoGrad guard;
  Cache cache;
  const Tensor text = randint(0, 11, {1, 6});
  (*net)(text.slice(1, 0, 5), Call{.cache = &cache});
  cache.fix(4, default_device());
  CHECK(message_of([&] { (*net)(text.slice(1, 5), Call{.cache = &cache}); }).find("exclude each other") !=
        std::string::npos);
}

TEST_CASE("xt: an encoder-decoder generates from its source") {
  manual_seed(27);
  XTransformer model({.dim = 12,
                      .enc_num_tokens = 11,
                      .enc_depth = 1,
                      .enc_heads = 2,
                      .enc_max_seq_len = 8,
                      .dec_num_tokens = 11,
                      .dec_depth = 1,
                      .dec_heads = 2,
                      .dec_max_seq_len = 16,
                      .tie_token_emb = true});
  prepare(model);
  CHECK(model.num_parameters() == [&] {
    int64_t n = 0;
    for (const auto& [name, t] : model.state_dict()) n += t.numel();
    return n;
  }() - 11 * 12);  // the shared embedding has two names
  const Tensor src = randint(0, 11, {2, 6}), start = randint(0, 11, {2, 1});
  const XTransformer::Call call{.mask = mask_of(6, {6, 3})};
  const auto cached = model.generate(src, start, 7, call, {.temperature = 0}).to_vector<int64_t>();
  CHECK(cached == model.generate(src, start, 7, call, {.temperature = 0, .cache_kv = false}).to_vector<int64_t>());
  const Beams one = model.beam_search(src, start, 7, call, {.beams = 1});
  CHECK(flatten(one.tokens).to_vector<int64_t>() == cached);
  const Tensor loss = model(src, randint(0, 11, {2, 5}), call);
  CHECK(loss.shape() == Shape{});
}
