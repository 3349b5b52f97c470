#include <weft/autograd/autograd.h>
#include <weft/examples/lm/stepper.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#ifdef WEFT_CUDA
#include <weft/cuda/graph.h>
#endif

#include <algorithm>
#include <cmath>
#include <limits>

namespace weft::lm {

namespace {
constexpr const char* kRemedy = ": try a lower --lr or --clip; the checkpoints before it are sound";
}

#ifdef WEFT_CUDA
// Two page-locked buffers: the host fills one while the other is on its way, and so stays at most two steps ahead.
struct Stepper::Gpu {
  Gpu(const Tensor& tokens, std::function<void()> step)
      : device(tokens.device()),
        copied{cuda::Event(device), cuda::Event(device)},
        graph(std::move(step), {.device = device}) {
    for (Tensor& b : buffers) b = pin_memory(zeros(tokens.shape(), {.dtype = int64, .device = Device::cpu()}));
  }
  Tensor& next_buffer() {
    turn = 1 - turn;
    copied[turn].wait();
    return buffers[turn];
  }
  Device device;
  Tensor buffers[2];
  cuda::Event copied[2];
  int turn = 0;
  cuda::Graph graph;
};
#else
struct Stepper::Gpu {};
#endif

Stepper::Stepper(const TrainConfig& config, Tensors parameters, Optimizer& optimizer,
                 std::function<Tensor(const Tensor& tokens)> loss)
    : config_(config), parameters_(std::move(parameters)), optimizer_(optimizer), loss_(std::move(loss)) {
  const Device device = parameters_.at(0).device();
  tokens_ = zeros({config_.accumulate, config_.batch, config_.seq_len + 1}, {.dtype = int64, .device = device});
  loss_sum_ = zeros({}, {.dtype = float64, .device = device});
  norm_sum_ = zeros({}, {.dtype = float64, .device = device});
  norm_ = zeros({}, {.device = device});
#ifdef WEFT_CUDA
  if (device.is_cuda()) {
    gpu_ = std::make_unique<Gpu>(tokens_, [this] {
      gradients();
      optimizer_.step();
    });
  }
#endif
}

Stepper::~Stepper() = default;

// The gradients of the mean over all batches, clipped; the step's numbers are added to the sums.
void Stepper::gradients() {
  optimizer_.zero_grad();
  const double share = 1.0 / static_cast<double>(config_.accumulate);
  Tensor total = zeros({}, {.dtype = float64, .device = tokens_.device()});
  for (int64_t i = 0; i < config_.accumulate; ++i) {
    const Tensor part = loss_(tokens_[i]);
    mul(part, share).backward();
    total = add(total, part.detach().to(float64));
  }
  loss_sum_.copy_(add(loss_sum_, div(total, static_cast<double>(config_.accumulate))));
  norm_ = clip_grad_norm_(parameters_, config_.clip > 0 ? config_.clip : std::numeric_limits<double>::infinity());
  norm_sum_.copy_(add(norm_sum_, norm_.to(float64)));
}

void Stepper::upload(const data::Bytes& rows) {
  check(static_cast<int64_t>(rows.size()) == tokens_.numel(), "a step takes ", tokens_.numel(), " bytes, not ",
        rows.size());
#ifdef WEFT_CUDA
  if (gpu_) {
    Tensor& buffer = gpu_->next_buffer();
    std::copy(rows.begin(), rows.end(), buffer.data<int64_t>());
    tokens_.copy_(buffer, true);
    return gpu_->copied[gpu_->turn].record();
  }
#endif
  std::copy(rows.begin(), rows.end(), tokens_.data<int64_t>());
}

void Stepper::run(const data::Bytes& rows, double lr_scale) {
  upload(rows);
  optimizer_.set_lr_scale(lr_scale);
  ++steps_;
#ifdef WEFT_CUDA
  if (gpu_) return gpu_->graph.run();
#endif
  gradients();
  const int64_t step = optimizer_.steps() + 1;
  check(std::isfinite(loss_sum_.item()), "the loss of step ", step, " is not finite", kRemedy);
  check(std::isfinite(norm_.item()), "the gradient of step ", step, " is not finite", kRemedy);
  optimizer_.step();
}

Stepper::Totals Stepper::take() {
  if (steps_ == 0) return {};
  const Totals totals{loss_sum_.item(), norm_.item(), steps_};
  check(std::isfinite(totals.loss) && std::isfinite(norm_sum_.item()), "a loss or a gradient of steps ",
        optimizer_.steps() - steps_ + 1, " to ", optimizer_.steps(), " is not finite", kRemedy);
  loss_sum_.zero_(), norm_sum_.zero_();
  steps_ = 0;
  return totals;
}

}  // namespace weft::lm
