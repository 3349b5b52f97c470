// The training loop of train_lm: batches, steps, validations, samples, checkpoints, and what they leave in the run
// folder.
#pragma once

#include <weft/examples/lm/checkpoint.h>
#include <weft/examples/lm/metrics.h>
#include <weft/examples/lm/models.h>
#include <weft/examples/lm/progress.h>
#include <weft/examples/lm/stepper.h>
#include <weft/examples/lm/tensorboard.h>

#include <atomic>
#include <chrono>
#include <limits>

namespace weft::lm {

// A text with its held-out part.
struct Corpus {
  std::string name;
  data::Bytes bytes;
  data::Split split;
  uint32_t crc = 0;
};
Corpus load_corpus(const TrainConfig& config);

class Trainer {
 public:
  // Makes the run folder, or with `resume` continues what is in it from its newest checkpoint (from the start, if it
  // was killed before the first). Throws weft::Error for what cannot be.
  Trainer(const TrainConfig& config, std::filesystem::path run, bool resume);

  // Trains until the plan is done, the time is up, or `stop` becomes true (the step in hand is finished); the state is
  // saved in each case. Returns false if it was stopped.
  bool train(const std::atomic<bool>& stop);

  // The last validation, on the whole held-out text, recorded like the others. Returns its bits per byte.
  double finish();
  // Bits per byte on the held-out text; at most `windows` sequences of it.
  double validate(int64_t windows) const;
  // A held-out line and how the model goes on from it, `length` bytes.
  std::string sample(int64_t length) const;

  const Corpus& corpus() const { return corpus_; }
  const LanguageModel& model() const { return *model_; }
  int64_t step() const { return state_.step; }
  // Held-out bytes that a validation on at most `windows` sequences predicts.
  int64_t validation_bytes(int64_t windows = std::numeric_limits<int64_t>::max()) const;
  // For lines between the redrawings of the progress bar.
  void message(const std::string& text) { progress_.message(text); }

 private:
  using Clock = std::chrono::steady_clock;

  void start_or_resume(bool resume);
  Tensor loss(const Tensor& tokens) const;
  void train_step();
  void collect();
  void report(double step_seconds);
  double validate_and_record(int64_t windows);
  void write_sample() const;
  data::Bytes held_out_line() const;
  void fix_plan();
  void save();
  bool done() const;
  double elapsed() const;
  double fraction_done() const;
  double seconds_left() const;

  TrainConfig config_;
  std::filesystem::path run_;
  Corpus corpus_;
  std::shared_ptr<LanguageModel> model_;
  Device device_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Stepper> stepper_;
  data::WindowSampler sampler_;
  TrainState state_;
  std::optional<MetricsLog> metrics_;
  std::optional<EventWriter> events_;
  Progress progress_;
  Clock::time_point started_;
  double seconds_before_ = 0;  // spent by earlier processes
  double step_seconds_ = 0;    // of one step, smoothed
  double grad_norm_ = 0;
  double bits_ = 0;        // per byte, of the steps that were last asked about
  double planned_at_ = 0;  // seconds and steps of the run when the plan was last looked at
  int64_t planned_step_ = 0;
};

}  // namespace weft::lm
