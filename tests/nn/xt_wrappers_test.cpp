// The wrappers of x-transformers: what they generate, and losses that draw.
#include <doctest/doctest.h>
#include <weft/autograd/gradcheck.h>
#include <weft/ops/reduce.h>

#include "xt_support.h"

using namespace weft;
using namespace weft::xt;
using namespace weft::test;

namespace {

std::shared_ptr<TransformerWrapper> language_model(bool causal, int64_t max_seq_len, const char* options = "{}") {
  TransformerWrapperConfig c{.num_tokens = 11, .max_seq_len = max_seq_len};
  if (causal)
    c.attn_layers = make<Decoder>(small_layers(options));
  else
    c.attn_layers = make<Encoder>(small_layers(options));
  const auto net = make<TransformerWrapper>(c);
  prepare(*net);
  return net;
}

}  // namespace

TEST_CASE("xt: return_only_embed leaves no logits, tied ones neither") {
  for (const bool tied : {false, true}) {
    const TransformerWrapper lm({.num_tokens = 9,
                                 .max_seq_len = 8,
                                 .tie_embedding = tied,
                                 .return_only_embed = true,
                                 .attn_layers = make<Encoder>(small_layers("{}"))});
    const TransformerOutput out = lm.run(zeros({2, 4}, {.dtype = int64}), {});
    CHECK(out.logits.empty());
    CHECK(out.embeddings.shape() == Shape{2, 4, 12});
    CHECK(!lm.logits_weight().defined());
  }
}

TEST_CASE("xt: the document's encoder, decoder and image captions") {
  manual_seed(40);
  const auto encoder = make<ViTransformerWrapper>(
      {.image_size = 16,
       .patch_size = 8,
       .attn_layers = make<Encoder>({.dim = 16, .depth = 1, .heads = 2, .attn_dim_head = 8})});
  const auto decoder = make<TransformerWrapper>(
      {.num_tokens = 20,
       .max_seq_len = 16,
       .attn_layers = make<Decoder>(
           {.dim = 16, .depth = 1, .heads = 2, .cross_attend = true, .layer_dropout = 0.1, .attn_dim_head = 8})});
  const Tensor image = randn({1, 3, 16, 16}), caption = randint(0, 20, {1, 9});
  const Tensor encoded = (*encoder)(image, {.return_embeddings = true});
  CHECK(encoded.shape() == Shape{1, 4, 16});
  CHECK((*decoder)(caption, {.context = encoded}).shape() == Shape{1, 9, 20});
  CHECK((*encoder)(image).shape() == Shape{1, 16});
}

TEST_CASE("xt: segments of a long text, generated with a cache and without") {
  manual_seed(41);
  XLAutoregressiveWrapper wrapper(language_model(true, 4, R"({"rotary_pos_emb": true, "rotary_emb_dim": 4})"));
  const Tensor start = randint(0, 11, {2, 6});
  const auto cached = wrapper.generate(start, 9, {.temperature = 0});
  CHECK(cached.shape() == Shape{2, 9});
  CHECK(cached.to_vector<int64_t>() ==
        wrapper.generate(start, 9, {.temperature = 0, .cache_kv = false}).to_vector<int64_t>());
  // What follows a text is what follows its first part and then the rest of it.
  const Tensor longer = cat({start, slice(cached, 1, 0, 5)}, 1);
  CHECK(wrapper.generate(longer, 4, {.temperature = 0}).to_vector<int64_t>() ==
        slice(cached, 1, 5).to_vector<int64_t>());
}

TEST_CASE("xt: continuous sequences, generated with a cache as without") {
  manual_seed(42);
  const auto net = make<ContinuousTransformerWrapper>(
      {.dim_in = 5, .dim_out = 5, .max_seq_len = 8, .attn_layers = make<Decoder>(small_layers("{}"))});
  prepare(*net);
  ContinuousAutoregressiveWrapper wrapper(net);
  const Tensor start = randn({2, 3, 5}, {.dtype = float64});
  const Tensor made = wrapper.generate(start, 8);
  Tensor text = start;
  const NoGrad guard;
  for (int i = 0; i < 8; ++i) {
    const Tensor window = slice(text, 1, std::max<int64_t>(0, text.size(1) - 8));
    text = cat({text, slice((*net)(window), 1, -1)}, 1);
  }
  CHECK(difference(made, slice(text, 1, 3)) < 1e-9);
  CHECK(wrapper.generate(select(start, 0, 0), 4).shape() == Shape{4, 5});
}

TEST_CASE("xt: tokens filled in in any order") {
  manual_seed(43);
  for (bool critic : {false, true})
    for (bool self_cond : {false, true}) {
      NonAutoregressiveWrapper wrapper({.net = language_model(false, 7),
                                        .mask_id = 10,
                                        .steps = 4,
                                        .self_cond = self_cond,
                                        .schedule = critic ? "cosine" : "linear",
                                        .self_token_critic = critic});
      wrapper.to(float64);
      const Tensor made = wrapper.generate(2);
      CHECK(made.shape() == Shape{2, 7});
      const Tensor tokens = randint(0, 10, {3, 7});
      const auto losses = wrapper(tokens, {});
      CHECK(std::isfinite(losses.loss.item()));
      CHECK(losses.critic_loss.defined() == critic);
      losses.loss.backward();
      for (const auto& [name, p] : wrapper.named_parameters())
        if (p.grad().defined()) CHECK(std::isfinite(p.grad().sum().item()));
      if (critic) CHECK_FALSE(wrapper(tokens, {.only_train_critic = true}).generator_loss.defined());
    }
}

TEST_CASE("xt: numbers among tokens") {
  manual_seed(44);
  const auto net = make<XValTransformerWrapper>(
      {.num_tokens = 6, .numerical_token_id = 3, .max_seq_len = 8, .attn_layers = make<Decoder>(small_layers("{}"))});
  prepare(*net);
  XValAutoregressiveWrapper wrapper(net);
  const Tensor ids = randint(0, 6, {2, 4}), numbers = randn({2, 4}, {.dtype = float64});
  const auto made = wrapper.generate(ids, numbers, 7);
  CHECK(made.sampled_token_ids.shape() == Shape{2, 7});
  CHECK(made.is_number_mask.to_vector<int64_t>() == eq(made.sampled_token_ids, 3).to_vector<int64_t>());
  CHECK(std::isfinite(wrapper(ids, numbers).item()));
}

TEST_CASE("xt: training with every kind of dropout, forgetful masks and recycling gives finite gradients") {
  manual_seed(45);
  auto layers = small_layers(R"({"cross_attend": true, "attn_dropout": 0.2, "ff_dropout": 0.2, "layer_dropout": 0.3,
                                 "cross_attn_tokens_dropout": 0.4, "cross_attn_dropout": 0.1})");
  const auto net = make<TransformerWrapper>({.num_tokens = 11,
                                             .max_seq_len = 16,
                                             .emb_dropout = 0.1,
                                             .emb_frac_gradient = 0.5,
                                             .recycling = true,
                                             .attn_layers = make<Decoder>(layers)});
  AutoregressiveWrapper wrapper({.net = net, .mask_prob = 0.3});
  const Call call{.context = randn({2, 6, 12}), .context_mask = mask_of(6, {6, 3})};
  for (int i = 0; i < 3; ++i) {
    const Tensor loss = wrapper(randint(0, 11, {2, 9}), call);
    loss.backward();
    CHECK(std::isfinite(loss.item()));
  }
  for (const auto& [name, p] : wrapper.named_parameters())
    if (p.grad().defined()) CHECK(std::isfinite(p.grad().sum().item()));
  CHECK(message_of([&] {
          net->eval(), (*net)(randint(0, 11, {2, 4}), call);
        }) == "TransformerWrapper: recycling needs recycle_steps in evaluation mode");
}

TEST_CASE("xt: a given mask and mask_prob both count") {
  manual_seed(47);
  const auto net = language_model(true, 8);
  AutoregressiveWrapper wrapper({.net = net, .mask_prob = 0.8});  // of 9 tokens 7 are hidden: all but the first
  const Tensor x = randint(0, 11, {2, 9}), not_first = logical_not(mask_of(8, {0, 1}));  // row 1 may not see the first
  const Tensor seen = logical_and(not_first, mask_of(8, {1, 1}));
  const std::pair<Call, Call> calls[] = {
      {{.mask = not_first}, {.mask = not_first, .self_attn_kv_mask = seen}},
      {{.self_attn_kv_mask = not_first}, {.self_attn_kv_mask = seen}},
  };
  for (const auto& [given, both] : calls)
    CHECK(difference(wrapper.loss(x, given).outputs.logits[0], (*net)(slice(x, 1, 0, -1), both)) < 1e-12);
}

TEST_CASE("xt: wrong inputs of preference optimisation") {
  const auto net = [] { return small_model("{}"); };
  const DPO dpo({.policy_model = net(), .ref_model = net()});
  const Tensor x = randint(0, 11, {2, 5}), y = randint(0, 11, {2, 5}), prompt = mask_of(5, {2, 3});
  const auto fails = [&](const Tensor& other, const DPO::Call& call) {
    return message_of([&] { dpo(x, other, call); });
  };
  CHECK(fails(y, {.prompt_mask = prompt}).empty());
  CHECK(fails(y, {.prompt_mask = prompt, .preferred_seq_mask = mask_of(4, {4, 3})}).empty());
  CHECK(fails(slice(y, 1, 0, 4), {.prompt_mask = prompt}) ==
        "DPO: expected two sequences of one shape [batch, length], got [2, 5] and [2, 4]");
  CHECK(fails(y, {}) == "DPO: a prompt_mask is needed");
  CHECK(fails(y, {.prompt_mask = prompt.to(int64)}) == "DPO: expected a bool mask [2, 5] or [2, 4], got int64 [2, 5]");
  const Tensor three = mask_of(3, {3, 1});
  const std::string wrong_length = "DPO: expected a bool mask [2, 5] or [2, 4], got bool [2, 3]";
  CHECK(fails(y, {.prompt_mask = three}) == wrong_length);
  CHECK(fails(y, {.prompt_mask = prompt, .preferred_seq_mask = three}) == wrong_length);
  CHECK(fails(y, {.prompt_mask = prompt, .unpreferred_seq_mask = three}) == wrong_length);
}

TEST_CASE("xt: wrong inputs of a model of several token streams") {
  const MultiInputTransformerWrapper model(
      {.num_tokens = {{"a", 5}, {"b", 7}}, .max_seq_len = 8, .attn_layers = make<Encoder>(small_layers("{}"))});
  const auto ids = [](const Shape& shape) { return zeros(shape, {.dtype = int64}); };
  const auto fails = [&](const NamedInputs& x) { return message_of([&] { model(x); }); };
  const std::string name = "MultiInputTransformerWrapper: ";
  CHECK(fails({{"b", ids({2, 3})}, {"a", ids({2, 3})}}).empty());
  CHECK(fails({{"a", ids({2, 3})}}) == name + "1 inputs for 2 in num_tokens");
  CHECK(fails({{"a", ids({2, 3})}, {"c", ids({2, 3})}}) == name + "no input called b");
  CHECK(fails({{"a", ids({2, 3})}, {"b", ids({2, 4})}}) ==
        name + "expected ids of one shape, got a [2, 3] and b [2, 4]");
  CHECK(fails({{"b", ids({2, 4})}, {"a", ids({2, 3})}}) ==
        name + "expected ids of one shape, got b [2, 4] and a [2, 3]");
  CHECK(fails({{"a", ids({6})}, {"b", ids({6})}}) == name + "expected ids [batch, length], got a [6]");
}

TEST_CASE("xt: half precision keeps its angles") {
  manual_seed(46);
  const auto net = language_model(true, 64, R"({"rotary_xpos": true, "rotary_emb_dim": 4, "rel_pos_bias": true})");
  net->to(float32);
  const Tensor tokens = randint(0, 11, {1, 50});
  const auto exact = (*net)(tokens).to_vector();
  net->to(bfloat16);
  const auto half = (*net)(tokens).to(float32).to_vector();
  double error = 0, norm = 0;
  for (size_t i = 0; i < exact.size(); ++i) error += std::pow(half[i] - exact[i], 2), norm += std::pow(exact[i], 2);
  CHECK(std::sqrt(error / norm) < 0.05);
}
