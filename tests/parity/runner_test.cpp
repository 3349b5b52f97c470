// The parity runner on files that are broken or wrong: a failure that says why, never an abort.
#include "run_case.h"

#include <doctest/doctest.h>
#include <weft/nn/xt/feed_forward.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/random.h>
#include <weft/tensor/safetensors.h>

#include <cmath>
#include <filesystem>

#include "support/temporary_folder.h"

using namespace weft;

namespace {

struct CaseText {
  std::string module = "flash_pytorch.ReLUSquared", config = "{}", call = R"({"args": ["x"], "kwargs": {}})",
              dtype = "float64", tolerance = R"({"out": 1e-9, "gin": 1e-8, "gparam": 1e-8})";
};

// y = relu(x)² of x = (-1, 2, 3), unless told otherwise.
NamedTensors good() {
  const auto t = [](std::vector<double> v) { return tensor(v, {3}); };
  return {{"in.x", t({-1, 2, 3})}, {"out.0", t({0, 4, 9})}, {"gout.0", t({1, 1, 1})}, {"gin.x", t({0, 4, 6})}};
}

parity::CaseResult run(const CaseText& text, const NamedTensors& tensors) {
  const test::TemporaryFolder folder;
  const std::string file = folder / "case.safetensors";
  save_safetensors(file, tensors,
                   {{"module", text.module},
                    {"config", text.config},
                    {"call", text.call},
                    {"dtype", text.dtype},
                    {"tolerance", text.tolerance},
                    {"package", "flash-pytorch==0.1.9"}});
  return parity::run_case(file, {});
}
std::string failure(const CaseText& text, const NamedTensors& tensors = good()) { return run(text, tensors).failure; }

NamedTensors with(const std::string& name, const Tensor& t) {
  NamedTensors all = good();
  for (auto& [n, value] : all)
    if (n == name) return value = t, all;
  all.emplace_back(name, t);
  return all;
}

}  // namespace

TEST_CASE("parity runner: a good case passes under any spelling of its name") {
  for (const char* name : {"flash_pytorch.ReLUSquared", "flash_pytorch.flash_pytorch.ReLUSquared"}) {
    const auto r = run({.module = name}, good());
    CHECK(r.failure == "");
    CHECK(r.out == 0);
    CHECK(r.gin == 0);
    CHECK(r.gparam < 0);
  }
  CHECK(parity::result_line(run({}, good()), "a/b.safetensors") ==
        "ok    flash_pytorch.ReLUSquared   out 0.0e+00  gin 0.0e+00  gparam -   b.safetensors");
}

TEST_CASE("parity runner: wrong numbers, shapes and NaN fail") {
  const double nan = std::nan("");
  CHECK(failure({}, with("out.0", tensor(std::vector<double>{0, 4, 9.1}, {3}))) == "out.0 1.0e-02 > 1.0e-09");
  CHECK(failure({}, with("gin.x", tensor(std::vector<double>{0, 4, 5}, {3}))) == "gin.x 1.6e-01 > 1.0e-08");
  CHECK(failure({}, with("out.0", tensor(std::vector<double>{0, 4, nan}, {3}))) == "out.0 nan > 1.0e-09");
  CHECK(failure({}, with("in.x", tensor(std::vector<double>{-1, 2, nan}, {3}))).rfind("out.0 nan", 0) == 0);
  CHECK(failure({}, with("out.0", zeros({2}, {.dtype = float64}))).find("out.0 has shape [3], not [2]") !=
        std::string::npos);
  CHECK(failure({}, with("out.1", zeros({2}, {.dtype = float64}))) == "the original has 2 outputs, this 1");
  CHECK(failure({}, with("gout.0", zeros({2}, {.dtype = float64}))) == "gout.0 has shape [2], the output [3]");
  CHECK(failure({}, with("gin.y", zeros({2}, {.dtype = float64}))) == "gin.y has no in.y");
}

TEST_CASE("parity runner: unknown names are named") {
  CHECK(failure({.module = "flash_pytorch.GAUU"}) == "no class called flash_pytorch.GAUU here");
  CHECK(failure({.module = "x"}) == "no class called x here");
  CHECK(failure({.module = ""}) == "metadata: no module is named");
  CHECK(failure({.config = R"({"dim": 3})"}) == "ReLUSquared: takes no options");
  CHECK(failure({.module = "flash_pytorch.ScaleNorm", .config = R"({"dims": 3})"}) ==
        "ScaleNorm: no option called dims; it has dim, eps");
  CHECK(failure({.module = "flash_pytorch.FLASH",
                 .config = R"({"dim": 3, "rotary_pos_emb": {"class": "GAU", "dim": 4}})"}) ==
        "no class called GAU here");
  CHECK(failure({.module = "flash_pytorch.AutoregressiveWrapper",
                 .config = R"({"net": {"class": "GAU", "dim": 4}})"}) == "a GAU cannot stand here");
  CHECK(failure({.call = R"({"args": ["y"]})"}) == "call: no input in.y for argument x");
  CHECK(failure({.call = R"({"args": ["x", "x"]})"}) == "call: 2 positional arguments, at most 1 are taken");
  CHECK(failure({.call = R"({"args": ["x"], "kwargs": {"mask": "x"}})"}) == "call: no argument called mask");
  CHECK(failure({.call = R"({"args": []})"}) == "call: argument x is missing");
  CHECK(failure({.call = R"({"args": ["x"], "method": "eval"})"}) == "call: no method called eval");
  CHECK(failure({}, with("param.w", zeros({2}))) == "ReLUSquared: load_state_dict; unexpected: w");
  CHECK(failure({}, with("bias", zeros({2}))) == "cannot read bias");
}

TEST_CASE("parity runner: options of x-transformers as Python writes them") {
  const DefaultDevice host(Device::cpu());  // where the runner computes
  xt::FeedForward module({.dim = 3, .mult = 2, .no_bias = true});
  const Tensor x = randn({1, 2, 3});
  NamedTensors tensors{{"in.x", x}, {"out.0", module.forward(x).detach()}};
  for (const auto& [name, t] : module.state_dict()) tensors.emplace_back("param." + name, t);
  const auto outcome = [&](const char* module_name, const char* config) {
    return failure({.module = module_name, .config = config, .dtype = "float32"}, tensors);
  };
  const auto feed_forward = [&](const char* config) { return outcome("x_transformers.FeedForward", config); };
  CHECK(feed_forward(R"({"dim": 3, "mult": 2, "no_bias": true})") == "");
  CHECK(feed_forward(R"({"dim": 3.0, "mult": 2, "no_bias": 1, "glu": null, "swish": 0, "dim_out": null})") == "");
  CHECK(feed_forward(R"({"dim": 3.5, "no_bias": true})") == "FeedForward: option dim must be an integer, got 3.5");
  CHECK(feed_forward(R"({"dim": 3, "no_bais": true})").rfind("FeedForward: no option called no_bais; it has dim", 0) ==
        0);
  const auto decoder = [&](const char* config) { return outcome("x_transformers.Decoder", config); };
  CHECK(decoder(R"({"dim": 3, "depth": 1, "attn_flush": true})").rfind("Decoder: no option called attn_flush", 0) == 0);
  CHECK(decoder(R"({"dim": 3, "depth": 1, "attn_custom_attn_fn": "relu"})") ==
        "attn_custom_attn_fn is a function, which a case cannot hold");
  CHECK(decoder(R"({"dim": 3, "depth": 1, "attn_hybrid_module": {"class": "LSTM"}})") == "no class called LSTM here");
  CHECK(outcome("x_transformers.TransformerWrapper",
                R"({"num_tokens": 3, "max_seq_len": 4, "attn_layers": {"class": "Decoder", "dim": 3, "deep": 1}})")
            .rfind("Decoder: no option called deep", 0) == 0);
}

TEST_CASE("parity runner: broken files fail") {
  CHECK(failure({.config = "{"}) == "metadata: config is not a JSON object");
  CHECK(failure({.call = "[]"}) == "metadata: call is not a JSON object");
  CHECK(failure({.dtype = "int64"}) == "metadata: dtype int64 is not floating");
  CHECK(failure({.tolerance = R"({"out": "small"})"}) == "metadata: the tolerance of out is not a number");
  CHECK_FALSE(parity::run_case("no/such/file.safetensors", {}).failure.empty());
  const test::TemporaryFolder folder;
  const std::string file = folder / "case.safetensors";
  save_safetensors(file, good(), {});
  CHECK(parity::run_case(file, {}).failure == "metadata: no module is named");
  const auto size = std::filesystem::file_size(file);
  for (size_t keep : {size_t{0}, size_t{4}, size_t{20}, size - 1}) {
    std::filesystem::resize_file(file, keep);
    CHECK_FALSE(parity::run_case(file, {}).failure.empty());
  }
}
