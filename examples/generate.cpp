// generate: writes text with a model that train_lm has trained.
//
//   generate runs/mine --prompt "template <typename" --length 500 --temperature 0.7
//   echo "namespace Eigen {" | generate runs/mine
//
// The text is streamed to stdout, prompt first. Exit status: 0, 1 for an error in what it was given, 2 for a wrong
// command line.
#include <unistd.h>
#include <weft/examples/lm/checkpoint.h>
#include <weft/examples/lm/models.h>
#include <weft/examples/lm/sampling.h>
#include <weft/tensor/parallel.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <iterator>

namespace {

using namespace weft;
using namespace weft::lm;

struct Command {
  std::string path, device = "cpu";
  std::optional<std::string> prompt;
  int64_t length = 512, seed = 0, context = 0, threads = 0;
  bool echo = true;
  SamplingConfig sampling;

  void add_to(CLI::App& app) {
    app.add_option("run", path, "a run folder of train_lm, or one of its checkpoints")->required();
    app.add_option("--prompt", prompt, "text to continue; without it, stdin where that is not a terminal");
    app.add_option("--length", length, "bytes to write")->capture_default_str();
    app.add_option("--temperature", sampling.temperature, "0: always the likeliest byte")->capture_default_str();
    app.add_option("--top-k", sampling.top_k, "only the k likeliest bytes; 0: all")->capture_default_str();
    app.add_option("--top-p", sampling.top_p, "only the likeliest bytes that reach this probability")
        ->capture_default_str();
    app.add_option("--seed", seed, "the same seed gives the same text")->capture_default_str();
    app.add_option("--context", context, "bytes the model looks back on; 0: as many as it was trained on")
        ->capture_default_str();
    app.add_flag("!--no-echo", echo, "leave the prompt out of the output");
    app.add_option("--device", device, "cpu or cuda")->capture_default_str();
    app.add_option("--threads", threads, "CPU threads; 0: all")->capture_default_str();
  }
};

data::Bytes prompt_of(const Command& command) {
  if (command.prompt) return data::encode_bytes(*command.prompt);
  if (::isatty(STDIN_FILENO)) return {};
  return data::Bytes(std::istreambuf_iterator<char>(std::cin), {});
}

void write_byte(uint8_t byte) {
  check(std::fputc(byte, stdout) != EOF && std::fflush(stdout) == 0, "cannot write the text to stdout");
}

int run(const Command& command) {
  validate(command.sampling);
  check(command.length >= 0, "--length must not be negative: ", command.length);
  check(command.context >= 0, "--context must not be negative: ", command.context);
  check(command.seed >= 0, "--seed must not be negative: ", command.seed);
  check(command.threads >= 0, "--threads must not be negative: ", command.threads);
  const auto [folder, checkpoint] = find_checkpoint(command.path);
  const TrainConfig config = read_config(folder);
  set_num_threads(static_cast<int>(command.threads));
  const auto model = make_model(config.model, config.model_options);
  load_weights(checkpoint, *model);
  model->to(device_from_name(command.device));
  model->eval();
  const data::Bytes prompt = prompt_of(command);
  if (command.echo)
    for (const uint8_t byte : prompt) write_byte(byte);
  Generator generator(static_cast<uint64_t>(command.seed));
  generate(*model, prompt, command.length, command.context > 0 ? command.context : config.seq_len, command.sampling,
           generator, write_byte);
  write_byte('\n');
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Writes text with a model that train_lm has trained.", "generate");
  Command command;
  command.add_to(app);
  try {
    app.parse(argc, argv);
    return run(command);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    std::fprintf(stderr, "generate: %s\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "generate: %s\n", e.what());
    return 1;
  }
}
