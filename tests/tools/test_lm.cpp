// train_lm's parts that need no run: its options and plan, its choice of bytes, its checkpoints.
#include <doctest/doctest.h>
#include <weft/examples/lm/checkpoint.h>
#include <weft/examples/lm/config.h>
#include <weft/examples/lm/models.h>
#include <weft/examples/lm/sampling.h>
#include <weft/nn/linear.h>
#include <weft/ops/create.h>

#include <cmath>
#include <fstream>
#include <map>

#include "support/message_of.h"
#include "support/temporary_folder.h"

using namespace weft;
using namespace weft::lm;
using namespace weft::test;
namespace fs = std::filesystem;

namespace {

std::map<int64_t, int> draw_many(std::vector<float> logits, SamplingConfig config) {
  Generator generator(5);
  std::map<int64_t, int> counts;
  for (int i = 0; i < 2000; ++i) ++counts[sample_token(logits, config, generator)];
  return counts;
}

}  // namespace

TEST_CASE("config.json gives back the config, and every preset makes sense") {
  for (const char* name : {"", "flash-paper", "gpu", "quick"}) {
    const TrainConfig config = preset(name);
    validate(config);
    CHECK(to_json(from_json(to_json(config), "config.json")) == to_json(config));
  }
  for (const char* name : {"", "gpu", "quick"}) {
    const TrainConfig config = preset(name, "gpt");
    validate(config);
    CHECK(config.model == "gpt");
    CHECK(to_json(from_json(to_json(config), "config.json")) == to_json(config));
    if (std::string(name) != "gpu") CHECK(make_model("gpt", config.model_options)->num_tokens() == 256);
  }
  CHECK(message_of([] { preset("flash-paper", "gpt"); }) == "--preset flash-paper is a recipe of flash, not of gpt");
  CHECK(to_json(preset("quick")).find("\"dim\": 128") != std::string::npos);
  CHECK(message_of([] { preset("fast"); }) == "--preset is one of flash-paper, gpu, quick, not fast");
  CHECK(message_of([] { from_json("{", "config.json"); }) == "config.json: not a JSON object");
}

TEST_CASE("options that make no sense are named as the command line spells them") {
  const auto with = [](auto&& change) {
    TrainConfig config;
    change(config);
    return message_of([&] { validate(config); });
  };
  CHECK(with([](auto& c) { c.seq_len = 0; }) == "--seq-len must be at least 1, not 0");
  CHECK(with([](auto& c) { c.lr = -1; }) == "--lr must be above 0, not -1");
  CHECK(with([](auto& c) { c.lr = std::nan(""); }) == "--lr must be above 0, not nan");
  CHECK(with([](auto& c) { c.optimizer = "sgd"; }) == "--optimizer is one of adam, adamw, not sgd");
  CHECK(with([](auto& c) { c.model_options = "dim=3"; }) == "--model-options must be a JSON object, not dim=3");
  CHECK(with([](auto& c) { c.steps = 0; }) == "--steps 0 means until the time limit: give --time-limit");
  CHECK(with([](auto& c) { c.steps = 0, c.time_limit = 1, c.schedule = "cosine"; }) ==
        "--schedule cosine has to know the length of the run: give --steps, or use wsd");
}

TEST_CASE("changes to the model's options leave the others") {
  CHECK(merge_model_options(R"({"dim": 8, "depth": 2})", R"({"depth": 3})") == R"({"dim":8,"depth":3})");
  CHECK(merge_model_options(R"({"dim": 8})", "dim=3") == "dim=3");
  CHECK(merge_model_options("dim=3", R"({"dim": 8})") == "dim=3");
}

TEST_CASE("a model of bytes refuses the options that cannot work with bytes alone") {
  const auto with = [](const char* model, const std::string& option) {
    return message_of([&] { make_model(model, "{\"dim\": 16, \"depth\": 1, " + option + "}"); });
  };
  for (const char* model : {"flash", "gpt"})
    for (const char* option : {"\"num_tokens\": 256", "\"causal\": true", "\"causal\": false"})
      CHECK(with(model, option).find("cannot be set: the model is causal, over the 256 bytes") != std::string::npos);
  CHECK(with("gpt", R"("use_cls_token": true)") ==
        "--model-options of gpt: use_cls_token cannot be used here: a byte needs one set of 256 logits");
  for (const char* option :
       {R"("average_pool_embed": true)", R"("num_output_heads": 2)", R"("return_only_embed": true)",
        R"("return_only_embed": true, "tie_embedding": true)", R"("logits_dim": 100)",
        R"("embed_num_tokens": {"kind": 3})", R"("cross_attend": true)", R"("custom_layers": ["a", "c", "f"])",
        R"("use_adaptive_layernorm": true)", R"("use_adaptive_rmsnorm": true)", R"("use_adaptive_layerscale": true)",
        R"("recycling": true)"}) {
    CAPTURE(option);
    CHECK(with("gpt", option).find("cannot be used here: ") != std::string::npos);
  }
  for (const char* option : {R"("num_output_heads": 1)", R"("logits_dim": 256)", R"("cross_attend": false)",
                             R"("custom_layers": ["a", "f"])", R"("tie_embedding": true)"})
    CHECK(with("gpt", option) == "");
}

TEST_CASE("a resumed run may change its length but not what it is") {
  TrainConfig stored, wanted;
  wanted.steps = 9, wanted.threads = 1, wanted.valid_every = 7;
  check_same_run(stored, wanted);
  wanted.batch = 5;
  CHECK(message_of([&] { check_same_run(stored, wanted); }) ==
        "--batch was 4 when this run began and cannot become 5 on --resume");
}

TEST_CASE("learning rates rise, stay and fall as scheduled") {
  TrainConfig c;
  c.lr = 1, c.warmup = 10, c.steps = 110, c.decay = 0.5;
  const auto rate = [&](const char* schedule, int64_t step) {
    c.schedule = schedule;
    return learning_rate(c, initial_plan(c), step);
  };
  for (const char* schedule : {"constant", "linear", "cosine", "wsd"}) {
    CHECK(rate(schedule, 0) == doctest::Approx(0.1));
    CHECK(rate(schedule, 9) == doctest::Approx(1));
    CHECK(rate(schedule, 10) == doctest::Approx(1));
  }
  CHECK(rate("constant", 109) == 1);
  CHECK(rate("linear", 60) == doctest::Approx(0.5));
  CHECK(rate("cosine", 60) == doctest::Approx(0.5));
  CHECK(rate("wsd", 54) == 1);
  CHECK(rate("wsd", 82) == doctest::Approx(0.5));
  CHECK(rate("wsd", 109) > 0);
  CHECK(rate("wsd", 109) < 0.02);
  c.min_lr = 0.1;
  CHECK(rate("cosine", 110) == doctest::Approx(0.1));
}

TEST_CASE("the next byte follows temperature, top-k and top-p") {
  const std::vector<float> logits{std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  auto counts = draw_many(logits, {.temperature = 1});
  CHECK(std::abs(counts[0] / 2000.0 - 0.5) < 0.04);
  CHECK(std::abs(counts[3] / 2000.0 - 0.05) < 0.02);
  CHECK(draw_many(logits, {.temperature = 1, .top_k = 2}).size() == 2);
  CHECK(draw_many(logits, {.temperature = 1, .top_p = 0.5}).size() == 1);
  CHECK(draw_many(logits, {.temperature = 1, .top_p = 0.79}).size() == 2);
  CHECK(draw_many(logits, {.temperature = 0}).size() == 1);
  CHECK(draw_many(logits, {.temperature = 0.2})[0] > 1800);  // 0.5⁵ against 0.3⁵: 92 %
  CHECK(draw_many({1, INFINITY, 2}, {.temperature = 0}).count(1) == 1);
  CHECK(message_of([] { draw_many({0, NAN}, {}); }) == "sample_token: the model's output is NaN");
  CHECK(message_of([] { validate(SamplingConfig{.top_p = 0}); }) == "--top-p lies above 0 and up to 1: 0");
}

TEST_CASE("checkpoints restore model, optimiser and position, and only complete ones count") {
  TemporaryFolder run;
  fs::create_directories(run / "checkpoints");
  manual_seed(1);
  Linear model(3, 2);
  Adam optimizer(model.parameters());
  const auto step = [](Linear& m, Adam& o) {
    o.zero_grad();
    m(ones({4, 3})).sum().backward();
    o.step();
  };
  CHECK(!latest_checkpoint(run.path()).has_value());
  for (int64_t i = 1; i <= 4; ++i) {
    step(model, optimizer);
    TrainState state;
    state.step = i, state.text = {.epoch = 2, .index = i}, state.generator = {.seed = 9, .offset = 77},
    state.corpus_crc = 5;
    state.loss_sum = 0.1 * static_cast<double>(i);
    save_checkpoint(run.path(), model, optimizer, state, 2);
  }
  CHECK(fs::exists(checkpoint_path(run.path(), 3)));
  CHECK(!fs::exists(checkpoint_path(run.path(), 2)));
  fs::create_directories(run / "checkpoints" / "step-00000009.tmp");  // left by a kill
  CHECK(latest_checkpoint(run.path()) == checkpoint_path(run.path(), 4));

  Linear other(3, 2);
  Adam other_optimizer(other.parameters());
  const TrainState state = load_checkpoint(*latest_checkpoint(run.path()), other, other_optimizer);
  CHECK(state.step == 4);
  CHECK(state.text == data::WindowSampler::State{.epoch = 2, .index = 4});
  CHECK(state.generator == Generator::State{.seed = 9, .offset = 77});
  CHECK(state.loss_sum == 0.1 * 4);
  step(model, optimizer), step(other, other_optimizer);
  CHECK(model.parameters()[0].to_vector() == other.parameters()[0].to_vector());

  std::ofstream(checkpoint_path(run.path(), 4) / "state.json") << "{}";
  CHECK(message_of([&] {
          load_checkpoint(*latest_checkpoint(run.path()), other, other_optimizer);
        }).find("state.json is damaged") != std::string::npos);
  CHECK(message_of([&] { find_checkpoint(run / "none"); }) == "no such run or checkpoint: " + (run / "none").string());
  CHECK(message_of([&] { read_config(run.path()); }) ==
        "no run in " + run.path().string() + ": there is no config.json");
}
