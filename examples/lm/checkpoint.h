// The folder of a run and the checkpoints in it.
//
//   RUN/config.json  metrics.jsonl  events.out.tfevents.*  loss.svg  samples/step-00001000.txt
//   RUN/checkpoints/step-00001000/
//     model.safetensors      the weights, under the model's own names: any safetensors reader takes them
//     optimizer.safetensors  what Adam remembers
//     state.json             the step, the position in the text, the generators, the plan of the run
//
// A checkpoint is written to a temporary folder, forced to the disk and renamed, so that every folder with a
// checkpoint's name is complete, whenever the process was killed.
#pragma once

#include <weft/examples/lm/config.h>
#include <weft/nn/data/text.h>
#include <weft/nn/optim/optimizer.h>
#include <weft/ops/random.h>

#include <filesystem>
#include <optional>

namespace weft::lm {

// All that a run needs to go on with the same bits, besides the tensors.
struct TrainState {
  int64_t step = 0;  // steps done
  data::WindowSampler::State text;
  Generator::State generator;  // of dropout and whatever else draws while training
  Plan plan;
  double loss_sum = 0;  // of the steps since the last line of metrics.jsonl
  int64_t loss_count = 0;
  double seconds = 0;  // spent training, over all processes
  int64_t corpus_size = 0;
  uint32_t corpus_crc = 0;  // so that a run is not continued on another text
};

std::filesystem::path checkpoint_path(const std::filesystem::path& run, int64_t step);

// Writes a checkpoint; then removes all but the newest `keep`.
void save_checkpoint(const std::filesystem::path& run, const Module& model, const Optimizer& optimizer,
                     const TrainState& state, int64_t keep);

// The newest complete checkpoint of a run, if there is one.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& run);

// Throws weft::Error for a damaged or foreign checkpoint, naming the file.
TrainState load_checkpoint(const std::filesystem::path& checkpoint, Module& model, Optimizer& optimizer);
void load_weights(const std::filesystem::path& checkpoint, Module& model);

// The run folder that a path given to `generate` means: a run, or one of its checkpoints. {run, checkpoint}
std::pair<std::filesystem::path, std::filesystem::path> find_checkpoint(const std::filesystem::path& path);

TrainConfig read_config(const std::filesystem::path& run);

}  // namespace weft::lm
