// gpt2: GPT-2 of the published sizes, from a checkpoint or from nothing.
//
//   gpt2 --weights model.safetensors --ids 15496,11,314 --count 20      # goes on with a text, given and printed as
//   token ids gpt2 --train FILE --device cuda --dtype bfloat16 --steps 200        # learns the bytes of a file, each a
//   token
//
// The weights are those of a published safetensors file, names and layouts as they are; the tokenizer is the folder of
// its vocab.json and merges.txt, or its tokenizer.json. Exit status: 0, 1 for an error in what it was given, 2 for a
// wrong command line.
#include "gpt2/gpt2.h"

#include <weft/nn/data/bpe.h>
#include <weft/nn/data/text.h>
#include <weft/weft.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>

namespace {

using namespace weft;

struct Command {
  std::string size = "124M", weights, train, save, device = "cpu", dtype = "float32", tokenizer, prompt;
  std::vector<int64_t> ids;
  int64_t count = 20, top_k = 40, seed = 0, batch = 4, length = 256, steps = 100;
  double temperature = 0.8, lr = 3e-4;

  void add_to(CLI::App& app) {
    app.add_option("--size", size, "124M, 350M, 774M or 1558M")->capture_default_str();
    app.add_option("--weights", weights, "safetensors file of a published checkpoint");
    app.add_option("--device", device, "cpu or cuda")->capture_default_str();
    app.add_option("--dtype", dtype, "float32, or bfloat16 for mixed precision")->capture_default_str();
    app.add_option("--seed", seed, "of initialisation, batches and draws")->capture_default_str();
    app.add_option("--ids", ids, "token ids to go on from")->delimiter(',')->group("Writing");
    app.add_option("--tokenizer", tokenizer, "folder of vocab.json and merges.txt, or a tokenizer.json")
        ->group("Writing");
    app.add_option("--prompt", prompt, "text to go on from; needs --tokenizer")->group("Writing");
    app.add_option("--count", count, "tokens to write")->capture_default_str()->group("Writing");
    app.add_option("--temperature", temperature, "0: always the likeliest")->capture_default_str()->group("Writing");
    app.add_option("--top-k", top_k, "only the k likeliest")->capture_default_str()->group("Writing");
    app.add_option("--train", train, "file whose bytes are learned")->group("Training");
    app.add_option("--batch", batch, "texts a step")->capture_default_str()->group("Training");
    app.add_option("--length", length, "bytes of a text")->capture_default_str()->group("Training");
    app.add_option("--steps", steps, "optimiser steps")->capture_default_str()->group("Training");
    app.add_option("--lr", lr, "AdamW's learning rate")->capture_default_str()->group("Training");
    app.add_option("--save", save, "write the weights here afterwards")->group("Training");
  }
};

void validate(const Command& c) {
  const std::pair<const char*, int64_t> at_least_one[] = {
      {"count", c.count}, {"top-k", c.top_k}, {"batch", c.batch}, {"length", c.length}, {"steps", c.steps}};
  for (const auto& [flag, value] : at_least_one) check(value >= 1, "--", flag, " must be at least 1, not ", value);
  check(c.seed >= 0, "--seed must not be negative: ", c.seed);
  check(c.temperature >= 0 && std::isfinite(c.temperature), "--temperature must not be negative: ", c.temperature);
  check(c.lr > 0 && std::isfinite(c.lr), "--lr must be a number above 0, not ", c.lr);
}

// batch · (length + 1) bytes from random places: int64 [batch, length + 1].
Tensor draw_batch(const data::Bytes& text, int64_t batch, int64_t length) {
  const auto places = randint(0, static_cast<int64_t>(text.size()) - length, {batch}).to_vector<int64_t>();
  std::vector<int64_t> ids;
  for (const int64_t at : places) ids.insert(ids.end(), text.begin() + at, text.begin() + at + length + 1);
  return tensor(ids, {batch, length + 1});
}

void train(gpt2::GPT2& model, const Command& command, Device device, bool mixed) {
  const data::Bytes text = data::read_corpus({command.train});
  check(static_cast<int64_t>(text.size()) > command.length, "--train: ", command.train, " holds ", text.size(),
        " bytes, a text needs ", command.length + 1);
  const Tensors parameters = model.parameters();
  AdamW optimizer(parameters, {.lr = command.lr, .beta2 = 0.95, .weight_decay = 0.1});
  auto start = std::chrono::steady_clock::now();
  int64_t timed = 0;
  for (int64_t step = 1; step <= command.steps; ++step) {
    const Tensor ids = draw_batch(text, command.batch, command.length).to(device);
    Tensor loss;
    {
      Autocast scope(bfloat16, mixed);
      loss = model.loss(slice(ids, 1, 0, -1), slice(ids, 1, 1));
    }
    optimizer.zero_grad();
    loss.backward();
    clip_grad_norm_(parameters, 1.0);
    optimizer.step();
    ++timed;
    if (step % 10 && step != 1 && step != command.steps) continue;
    const double bits = loss.item() / std::log(2.0);  // waits for the device
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("step %lld  %.3f bits per byte  %.0f tokens/s\n", static_cast<long long>(step), bits,
                static_cast<double>(timed * command.batch * command.length) / seconds);
    std::fflush(stdout);
    start = std::chrono::steady_clock::now(), timed = 0;
  }
}

data::BpeTokenizer load_tokenizer(const std::filesystem::path& path) {
  return std::filesystem::is_directory(path) ? data::BpeTokenizer::load(path / "vocab.json", path / "merges.txt")
                                             : data::BpeTokenizer::load(path);
}

void write(const gpt2::GPT2& model, const Command& command, bool mixed) {
  std::optional<data::BpeTokenizer> tokenizer;
  if (!command.tokenizer.empty()) tokenizer = load_tokenizer(command.tokenizer);
  std::vector<int64_t> ids = command.ids;
  if (!command.prompt.empty()) {
    check(tokenizer.has_value(), "--prompt needs a --tokenizer");
    ids = tokenizer->encode(command.prompt);
  }
  Autocast scope(bfloat16, mixed);
  ids = model.generate(ids, command.count, command.temperature, command.top_k);
  if (tokenizer) {
    std::printf("%s\n", tokenizer->decode(ids).c_str());
    return;
  }
  for (size_t i = 0; i < ids.size(); ++i) std::printf("%s%lld", i ? "," : "", static_cast<long long>(ids[i]));
  std::printf("\n");
}

int run(const Command& command) {
  validate(command);
  const Device device = device_from_name(command.device);
  const DType dtype = dtype_from_name(command.dtype);
  check(dtype == float32 || dtype == bfloat16, "--dtype must be float32 or bfloat16, got ", command.dtype);
  const bool writes = !command.ids.empty() || !command.prompt.empty();
  check(!command.train.empty() || writes,
        "nothing to do: give a --prompt or --ids to go on from, or a file to --train on");
  manual_seed(static_cast<uint64_t>(command.seed));
  gpt2::GPT2 model(gpt2::published_size(command.size));
  if (!command.weights.empty()) model.load(command.weights);
  if (command.weights.empty() && command.train.empty())
    std::fprintf(stderr, "gpt2: without --weights or --train the weights are random, and so is what they write\n");
  model.to(device);
  if (!command.train.empty()) train(model, command, device, dtype == bfloat16);
  if (!command.save.empty()) save_safetensors(command.save, model.state_dict());
  if (writes) write(model, command, dtype == bfloat16);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Command command;
  CLI::App app("GPT-2: writes with a published checkpoint, or learns the bytes of a file", "gpt2");
  command.add_to(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  try {
    return run(command);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "gpt2: %s\n", e.what());
    return 1;
  }
}
