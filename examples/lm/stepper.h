// One optimiser step: forward and backward over `accumulate` batches, clipping, Adam. On a GPU the step is recorded
// once and replayed, its text comes from page-locked memory, and nobody waits for it but who asks for its numbers.
#pragma once

#include <weft/examples/lm/config.h>
#include <weft/nn/data/text.h>
#include <weft/nn/optim/optimizer.h>

#include <functional>
#include <memory>

namespace weft::lm {

class Stepper {
 public:
  // loss: the mean loss of tokens [batch, seq_len + 1] on the device, which is that of the parameters.
  Stepper(const TrainConfig& config, Tensors parameters, Optimizer& optimizer,
          std::function<Tensor(const Tensor& tokens)> loss);
  ~Stepper();

  // rows: accumulate · batch windows one after another. On the CPU, throws weft::Error for a loss or a gradient that is
  // not finite, before the weights are touched.
  void run(const data::Bytes& rows, double lr_scale);

  struct Totals {
    double loss = 0;       // summed over the steps
    double grad_norm = 0;  // of the last step
    int64_t steps = 0;
  };
  // Of the steps since the last call; waits for them. On a GPU this is where a number that is not finite throws: ask
  // before a checkpoint is written.
  Totals take();

 private:
  struct Gpu;
  void gradients();
  void upload(const data::Bytes& rows);

  TrainConfig config_;
  Tensors parameters_;
  Optimizer& optimizer_;
  std::function<Tensor(const Tensor&)> loss_;
  Tensor tokens_;                      // [accumulate, batch, seq_len + 1], int64: a place that does not change
  Tensor loss_sum_, norm_sum_, norm_;  // scalars; the sums in float64, over the steps since take()
  int64_t steps_ = 0;
  std::unique_ptr<Gpu> gpu_;
};

}  // namespace weft::lm
