// What generate and beam_search share: their arguments made plain, and a step that a GPU records. Not for users.
#pragma once

#include <weft/nn/xt/call.h>
#include <weft/ops/random.h>
#ifdef WEFT_CUDA
#include <weft/cuda/graph.h>
#endif

#include <functional>
#include <memory>
#include <optional>

namespace weft::xt {

/// Between two looks whether all has ended, for which the host has to wait for a GPU.
inline constexpr int64_t kStepsACheck = 16;

struct Prompts {
  Tensor tokens;  // int64 [b, t], each row's end at the right
  Tensor start;   // int64 [b], where rows begin; undefined: at 0
  Call call;      // with seq_start_pos where rows begin, and masks moved as the tokens are
};
/// given: [b, t] or [t], as generate takes them; lens: int64 [b] or undefined.
Prompts prepare_prompts(const Tensor& given, int64_t seq_len, const Tensor& lens, const Call& call, int64_t pad_value);

/// Runs a step that changes the device's memory alone and draws from default_generator() alone.
class CapturedStep {
 public:
  /// capture: true: it must be recorded; false: it must not; unset: where it can be and enough steps are left.
  CapturedStep(std::function<void()> step, Device device, std::optional<bool> capture)
      : step_(std::move(step)), device_(device), capture_(capture) {}

  /// One of steps_left steps.
  void run([[maybe_unused]] int64_t steps_left) {
#ifdef WEFT_CUDA
    if (device_.is_cuda() && capture_.value_or(true) && replayed(steps_left)) return;
#endif
    step_();
  }

 private:
#ifdef WEFT_CUDA
  static constexpr int kWarmup = 2;            // runs as they are: they choose algorithms
  static constexpr int64_t kWorthCapture = 8;  // steps
  bool replayed(int64_t steps_left) {
    if (given_up_ || runs_++ < kWarmup) return false;
    if (!graph_ && !capture_ && steps_left < kWorthCapture) return false;
    if (!graph_) graph_ = std::make_unique<cuda::Graph>(step_, cuda::GraphOptions{.warmup = 0, .device = device_});
    try {
      graph_->run();
    } catch (const Error&) {
      if (graph_->captured() || capture_) throw;
      graph_.reset(), given_up_ = true;  // something in the step waits for the device: a filter, say
    }
    return !given_up_;
  }
  std::unique_ptr<cuda::Graph> graph_;
  int runs_ = 0;
  bool given_up_ = false;
#endif
  std::function<void()> step_;
  [[maybe_unused]] Device device_;
  [[maybe_unused]] std::optional<bool> capture_;
};

}  // namespace weft::xt
