// Convolution layers, with PyTorch's parameter shapes and initial values.
#pragma once

#include <weft/nn/module.h>
#include <weft/ops/conv.h>

namespace weft {

/// x: [b, in_channels, n] → [b, out_channels, m]. weight: [out, in / groups, taps], bias: [out]; both start uniform
/// within ± 1/sqrt(in / groups · taps).
class Conv1d : public Module {
 public:
  Conv1d(int64_t in_channels, int64_t out_channels, int64_t kernel_size, Conv1dOptions options = {}, bool bias = true);
  Tensor forward(const Tensor& x) const override { return conv1d(x, weight, bias, options_); }
  std::string name() const override { return "Conv1d"; }
  std::string extra_repr() const override;

  Tensor weight, bias;

 private:
  Conv1dOptions options_;
};

/// x: [b, in_channels, h, w] → [b, out_channels, oh, ow]. weight: [out, in / groups, kh, kw].
class Conv2d : public Module {
 public:
  Conv2d(int64_t in_channels, int64_t out_channels, std::array<int64_t, 2> kernel_size, Conv2dOptions options = {},
         bool bias = true);
  Tensor forward(const Tensor& x) const override { return conv2d(x, weight, bias, options_); }
  std::string name() const override { return "Conv2d"; }
  std::string extra_repr() const override;

  Tensor weight, bias;

 private:
  Conv2dOptions options_;
};

}  // namespace weft
