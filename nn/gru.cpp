#include <weft/nn/gru.h>
#include <weft/nn/init.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/linear.h>
#include <weft/ops/matmul.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft {
namespace {

Tensor drawn(const Shape& shape, int64_t hidden) {
  Tensor t = empty(shape);
  const double bound = 1 / std::sqrt(static_cast<double>(hidden));
  init::uniform_(t, -bound, bound);
  return t;
}

// from_x, from_state: [..., 3 · hidden], the two halves of the gates' sums.
Tensor next_state(const Tensor& from_x, const Tensor& from_state, const Tensor& state) {
  const Tensors x = chunk(from_x, 3, -1), h = chunk(from_state, 3, -1);
  const Tensor r = sigmoid(x[0] + h[0]), z = sigmoid(x[1] + h[1]);
  const Tensor n = tanh(x[2] + r * h[2]);
  return n + z * (state - n);
}

}  // namespace

GRUCell::GRUCell(int64_t input_size, int64_t hidden_size)
    : weight_ih(register_parameter("weight_ih", drawn({3 * hidden_size, input_size}, hidden_size))),
      weight_hh(register_parameter("weight_hh", drawn({3 * hidden_size, hidden_size}, hidden_size))),
      bias_ih(register_parameter("bias_ih", drawn({3 * hidden_size}, hidden_size))),
      bias_hh(register_parameter("bias_hh", drawn({3 * hidden_size}, hidden_size))) {}

Tensor GRUCell::step(const Tensor& x, const Tensor& state) const {
  return next_state(linear(x, weight_ih, bias_ih), linear(state, weight_hh, bias_hh), state);
}

GRU::GRU(const GRUConfig& c) : config_(c) {
  check(c.input_size > 0 && c.hidden_size > 0 && c.num_layers > 0,
        "GRU: input_size, hidden_size and num_layers must be positive, got ", c.input_size, ", ", c.hidden_size,
        " and ", c.num_layers);
  const int64_t h = c.hidden_size;
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    const int64_t from = layer == 0 ? c.input_size : h * (c.bidirectional ? 2 : 1);
    auto& directions = layers_.emplace_back();
    for (const char* reverse : {"", "_reverse"}) {
      if (*reverse && !c.bidirectional) continue;
      const std::string suffix = "_l" + std::to_string(layer) + reverse;
      const auto parameter = [&](const char* name, const Shape& shape) {
        return register_parameter(name + suffix, drawn(shape, h));
      };
      Direction& d = directions.emplace_back();
      d.weight_ih = parameter("weight_ih", {3 * h, from}), d.weight_hh = parameter("weight_hh", {3 * h, h});
      if (c.bias) d.bias_ih = parameter("bias_ih", {3 * h}), d.bias_hh = parameter("bias_hh", {3 * h});
    }
  }
}

Tensor GRU::forward(const Tensor& input) const {
  check(input.dim() == 3 && input.size(2) == config_.input_size, "GRU: expected x [batch, length, ", config_.input_size,
        "], got ", input.shape());
  const int64_t b = input.size(0), n = input.size(1), h = config_.hidden_size;
  Tensor x = input;
  for (const auto& directions : layers_) {
    Tensors both;
    for (size_t i = 0; i < directions.size(); ++i) {
      const Direction& d = directions[i];
      const Tensor from_x = linear(x, d.weight_ih, d.bias_ih);  // of all steps
      Tensor state = zeros({b, h}, {.dtype = x.dtype(), .device = x.device()});
      Tensors states(static_cast<size_t>(n));
      for (int64_t step = 0; step < n; ++step) {
        const int64_t at = i == 0 ? step : n - 1 - step;
        state = next_state(select(from_x, 1, at), linear(state, d.weight_hh, d.bias_hh), state);
        states[static_cast<size_t>(at)] = state;
      }
      both.push_back(n == 0 ? zeros({b, 0, h}, {.dtype = x.dtype(), .device = x.device()}) : stack(states, 1));
    }
    x = both.size() == 1 ? both[0] : cat(both, -1);
  }
  return x;
}

std::string GRU::extra_repr() const {
  std::string s = concat(config_.input_size, ", ", config_.hidden_size);
  if (config_.num_layers > 1) s += concat(", num_layers=", config_.num_layers);
  if (!config_.bias) s += ", bias=False";
  return s + ", batch_first=True" + (config_.bidirectional ? ", bidirectional=True" : "");
}

}  // namespace weft
