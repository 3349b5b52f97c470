// train_lm: trains a language model over bytes on any text.
//
//   train_lm                                             # a default model on Eigen's headers
//   train_lm --model gpt                                 # x-transformers' decoder in place of FLASH
//   train_lm --preset flash-paper --data enwik8.gz       # the recipe of the FLASH document
//   train_lm --out runs/mine --resume                    # goes on where a run was stopped or killed
//
// Progress goes to stderr, the result to stdout. Exit status: 0, 1 for an error in what it was given, 2 for a wrong
// command line, 130 when it was interrupted (the run is saved).
#include <weft/examples/lm/config.h>
#include <weft/examples/lm/trainer.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <optional>

namespace {

using namespace weft;
using namespace weft::lm;

std::atomic<bool> interrupted{false};

void on_signal(int) { interrupted = true; }

struct Command {
  std::string preset, out;
  bool resume = false;
  std::optional<int64_t> dim, depth;

  void add_to(CLI::App& app) {
    app.add_option("--preset", preset, "start from these values: flash-paper, gpu or quick")->group("Run");
    app.add_option("--out", out, "run folder; default: runs/MODEL-DATE-TIME")->group("Run");
    app.add_flag("--resume", resume, "continue the run in --out")->group("Run");
    app.add_option("--dim", dim, "size of the model: features of a byte")->group("Model");
    app.add_option("--depth", depth, "size of the model: layers")->group("Model");
  }
};

void add_options(CLI::App& app, TrainConfig& config) {
  for (Option& option : options(config)) {
    const std::string flag = "--" + option.flag;
    std::visit(
        [&](auto& value) {
          using Value = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<Value, bool*>) {
            app.add_flag(flag + ",!--no-" + option.flag, *value, option.help)->group(option.group);
          } else if constexpr (std::is_same_v<Value, int64_t*> || std::is_same_v<Value, double*> ||
                               std::is_same_v<Value, std::string*>) {
            app.add_option(flag, *value, option.help)->group(option.group)->capture_default_str();
          }
        },
        option.value);
  }
}

// The options start from the stored run, the preset or the model's defaults; what the command line says goes on top.
TrainConfig starting_values(int argc, char** argv, Command& command) {
  CLI::App first("", "train_lm");
  first.set_help_flag();
  first.allow_extras();
  command.add_to(first);
  std::string model = TrainConfig{}.model;
  first.add_option("--model", model);
  first.parse(argc, argv);
  if (!command.resume) return preset(command.preset, model);
  check(!command.out.empty(), "--resume needs --out, the folder of the run");
  check(command.preset.empty(), "--preset and --resume exclude each other: the run has its options");
  return read_config(command.out);
}

// What the command line says of the model changes the starting values, and leaves the rest of them.
void change_model(TrainConfig& config, const TrainConfig& start, const Command& command) {
  config.model_options = merge_model_options(start.model_options, config.model_options);
  const auto set = [&](const char* name, const std::optional<int64_t>& value) {
    if (value)
      config.model_options =
          merge_model_options(config.model_options, "{\"" + std::string(name) + "\":" + std::to_string(*value) + "}");
  };
  set("dim", command.dim);
  set("depth", command.depth);
}

std::string default_folder(const std::string& model) {
  const std::time_t now = std::time(nullptr);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", std::localtime(&now));
  return "runs/" + model + "-" + stamp;
}

int run(const TrainConfig& config, const Command& command) {
  validate(config);
  if (command.resume) check_same_run(read_config(command.out), config);
  const std::string out = command.out.empty() ? default_folder(config.model) : command.out;
  Trainer trainer(config, out, command.resume);
  const Corpus& corpus = trainer.corpus();
  std::fprintf(stderr, "text    %s: %s bytes, %zu held-out blocks\n", corpus.name.c_str(),
               count_text(static_cast<double>(corpus.bytes.size())).c_str(), corpus.split.valid.size());
  std::fprintf(stderr, "model   %s: %s parameters\n", config.model.c_str(),
               count_text(static_cast<double>(trainer.model().num_parameters())).c_str());
  std::fprintf(stderr, "run     %s%s\n", out.c_str(),
               command.resume ? (", from step " + std::to_string(trainer.step())).c_str() : "");
  if (!trainer.train(interrupted)) {
    std::fprintf(stderr, "interrupted at step %lld; continue with: train_lm --out %s --resume\n",
                 static_cast<long long>(trainer.step()), out.c_str());
    return 130;
  }
  const double bits = trainer.finish();
  std::printf("validation: %.4f bits per byte over %lld held-out bytes after %lld steps\n", bits,
              static_cast<long long>(trainer.validation_bytes()), static_cast<long long>(trainer.step()));
  if (config.sample_length > 0) std::printf("\nsample:\n%s\n", trainer.sample(config.sample_length).c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  CLI::App app("Trains a language model over bytes.", "train_lm");
  try {
    Command command;
    const TrainConfig start = starting_values(argc, argv, command);
    TrainConfig config = start;
    command.add_to(app);
    add_options(app, config);
    app.parse(argc, argv);
    change_model(config, start, command);
    return run(config, command);
  } catch (const CLI::Success& e) {
    return app.exit(e);  // --help
  } catch (const CLI::ParseError& e) {
    std::fprintf(stderr, "train_lm: %s\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "train_lm: %s\n", e.what());
    return 1;
  }
}
