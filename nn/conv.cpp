#include <weft/nn/conv.h>
#include <weft/nn/init.h>

#include <cmath>

namespace weft {

namespace {

// PyTorch's start: uniform within ± 1/sqrt(fan-in), for the weight and the bias.
void reset(const Tensor& weight, const Tensor& bias) {
  const int64_t fan_in = init::fans(weight).in;
  const double bound = fan_in > 0 ? 1 / std::sqrt(static_cast<double>(fan_in)) : 0;
  init::uniform_(weight, -bound, bound);
  if (bias.defined()) init::uniform_(bias, -bound, bound);
}

int64_t channels_of_group(const char* layer, int64_t in, int64_t out, int64_t groups) {
  check(groups > 0 && in % groups == 0 && out % groups == 0, layer, ": ", in, " and ", out,
        " channels cannot be divided into ", groups, " groups");
  return in / groups;
}

}  // namespace

Conv1d::Conv1d(int64_t in, int64_t out, int64_t taps, Conv1dOptions options, bool with_bias) : options_(options) {
  weight = register_parameter("weight", empty({out, channels_of_group("Conv1d", in, out, options.groups), taps}));
  if (with_bias) bias = register_parameter("bias", empty({out}));
  reset(weight, bias);
}

std::string Conv1d::extra_repr() const {
  std::string s = concat(weight.size(1) * options_.groups, ", ", weight.size(0), ", kernel_size=(", weight.size(2),
                         ",), stride=(", options_.stride, ",)");
  if (options_.padding != 0) s += concat(", padding=(", options_.padding, ",)");
  if (options_.dilation != 1) s += concat(", dilation=(", options_.dilation, ",)");
  if (options_.groups != 1) s += concat(", groups=", options_.groups);
  if (options_.causal) s += ", causal=True";
  return s + (bias.defined() ? "" : ", bias=False");
}

Conv2d::Conv2d(int64_t in, int64_t out, std::array<int64_t, 2> kernel, Conv2dOptions options, bool with_bias)
    : options_(options) {
  weight = register_parameter("weight",
                              empty({out, channels_of_group("Conv2d", in, out, options.groups), kernel[0], kernel[1]}));
  if (with_bias) bias = register_parameter("bias", empty({out}));
  reset(weight, bias);
}

std::string Conv2d::extra_repr() const {
  auto pair = [](int64_t a, int64_t b) { return concat("(", a, ", ", b, ")"); };
  std::string s = concat(weight.size(1) * options_.groups, ", ", weight.size(0),
                         ", kernel_size=", pair(weight.size(2), weight.size(3)),
                         ", stride=", pair(options_.stride[0], options_.stride[1]));
  if (options_.padding != std::array<int64_t, 2>{0, 0})
    s += ", padding=" + pair(options_.padding[0], options_.padding[1]);
  if (options_.dilation != std::array<int64_t, 2>{1, 1}) {
    s += ", dilation=" + pair(options_.dilation[0], options_.dilation[1]);
  }
  if (options_.groups != 1) s += concat(", groups=", options_.groups);
  return s + (bias.defined() ? "" : ", bias=False");
}

}  // namespace weft
