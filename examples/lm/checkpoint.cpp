#include <weft/examples/lm/atomic_file.h>
#include <weft/examples/lm/checkpoint.h>
#include <weft/tensor/safetensors.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace weft::lm {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kModel = "model.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kState = "state.json";

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  check(in.is_open(), path.string(), ": cannot be read");
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

// Complete checkpoints, oldest first: their zero-padded names sort by step.
std::vector<fs::path> checkpoints_of(const fs::path& run) {
  std::vector<fs::path> found;
  if (!fs::is_directory(run / "checkpoints")) return found;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints"))
    if (entry.is_directory() && entry.path().filename().string().starts_with("step-") && !is_temporary(entry.path()))
      found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

Json to_json(const TrainState& s) {
  return {{"step", s.step},
          {"text", {{"epoch", s.text.epoch}, {"index", s.text.index}}},
          {"generator", {{"seed", s.generator.seed}, {"offset", s.generator.offset}}},
          {"plan", {{"total", s.plan.total}, {"decay_from", s.plan.decay_from}}},
          {"unlogged", {{"loss", s.loss_sum}, {"steps", s.loss_count}}},
          {"seconds", s.seconds},
          {"corpus", {{"size", s.corpus_size}, {"crc32c", s.corpus_crc}}}};
}

TrainState state_from(const Json& j) {
  return {.step = j.at("step"),
          .text = {.epoch = j.at("text").at("epoch"), .index = j.at("text").at("index")},
          .generator = {.seed = j.at("generator").at("seed"), .offset = j.at("generator").at("offset")},
          .plan = {.total = j.at("plan").at("total"), .decay_from = j.at("plan").at("decay_from")},
          .loss_sum = j.at("unlogged").at("loss"),
          .loss_count = j.at("unlogged").at("steps"),
          .seconds = j.at("seconds"),
          .corpus_size = j.at("corpus").at("size"),
          .corpus_crc = j.at("corpus").at("crc32c")};
}

// Renamed first: a kill in the middle must not leave half a checkpoint under a checkpoint's name.
void remove_checkpoint(const fs::path& path) {
  const fs::path doomed = path.string() + ".tmp";
  std::error_code ignored;
  fs::rename(path, doomed, ignored);
  fs::remove_all(doomed, ignored);
}

}  // namespace

fs::path checkpoint_path(const fs::path& run, int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return run / "checkpoints" / name;
}

void save_checkpoint(const fs::path& run, const Module& model, const Optimizer& optimizer, const TrainState& state,
                     int64_t keep) {
  const fs::path path = checkpoint_path(run, state.step);
  if (!fs::exists(path)) {
    write_folder_atomically(path, [&](const fs::path& folder) {
      save_safetensors(folder / kModel, model.state_dict());
      save_safetensors(folder / kOptimizer, optimizer.state_dict());
      write_file_atomically(folder / kState, to_json(state).dump(2) + "\n");
    });
  }
  auto all = checkpoints_of(run);
  for (size_t i = 0; i + static_cast<size_t>(keep) < all.size(); ++i) remove_checkpoint(all[i]);
}

std::optional<fs::path> latest_checkpoint(const fs::path& run) {
  const auto all = checkpoints_of(run);
  if (all.empty()) return {};
  return all.back();
}

void load_weights(const fs::path& checkpoint, Module& model) {
  model.load_state_dict(load_safetensors(checkpoint / kModel));
}

TrainState load_checkpoint(const fs::path& checkpoint, Module& model, Optimizer& optimizer) {
  load_weights(checkpoint, model);
  optimizer.load_state_dict(load_safetensors(checkpoint / kOptimizer));
  const fs::path path = checkpoint / kState;
  try {
    return state_from(Json::parse(read_text(path)));
  } catch (const Json::exception& e) {
    fail(path.string(), " is damaged: ", e.what());
  }
}

std::pair<fs::path, fs::path> find_checkpoint(const fs::path& path) {
  check(fs::exists(path), "no such run or checkpoint: ", path.string());
  if (fs::exists(path / kModel)) return {fs::absolute(path).lexically_normal().parent_path().parent_path(), path};
  check(fs::exists(path / "config.json"), path.string(), " is neither a run folder nor a checkpoint");
  const auto latest = latest_checkpoint(path);
  check(latest.has_value(), path.string(), " holds no checkpoint yet");
  return {path, *latest};
}

TrainConfig read_config(const fs::path& run) {
  const fs::path path = run / "config.json";
  check(fs::exists(path), "no run in ", run.string(), ": there is no config.json");
  return from_json(read_text(path), path.string());
}

}  // namespace weft::lm
