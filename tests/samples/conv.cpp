#include "support/sample.h"

#include <cmath>

namespace weft::test {

namespace {

double padded_at(const Tensor& x, int64_t b, int64_t c, int64_t i, int64_t j) {
  return i < 0 || j < 0 || i >= x.size(2) || j >= x.size(3) ? 0 : at(x, {b, c, i, j});
}

// x: [b, c, h, w], w: [o, c / groups, kh, kw]; before and after: zeros around each dimension
Tensor naive_conv(const Tensor& x, const Tensor& w, const Tensor& bias, const Conv2dOptions& o,
                  std::array<int64_t, 2> before, std::array<int64_t, 2> after) {
  const int64_t out = w.size(0), ci = w.size(1);
  int64_t size[2];
  for (size_t d = 0; d < 2; ++d) {
    const int64_t dim = static_cast<int64_t>(d) + 2;
    size[d] = (x.size(dim) + before[d] + after[d] - o.dilation[d] * (w.size(dim) - 1) - 1) / o.stride[d] + 1;
  }
  return make({x.size(0), out, size[0], size[1]}, [&](int64_t flat) {
    const int64_t q = flat % size[1], p = flat / size[1] % size[0], f = flat / size[1] / size[0] % out;
    const int64_t b = flat / size[1] / size[0] / out, group = f / (out / o.groups);
    double s = bias.defined() ? at(bias, {f}) : 0;
    for (int64_t c = 0; c < ci; ++c) {
      for (int64_t i = 0; i < w.size(2); ++i) {
        for (int64_t j = 0; j < w.size(3); ++j) {
          s += at(w, {f, c, i, j}) * padded_at(x, b, group * ci + c, p * o.stride[0] + i * o.dilation[0] - before[0],
                                               q * o.stride[1] + j * o.dilation[1] - before[1]);
        }
      }
    }
    return s;
  });
}

void add_conv1d(SampleList& l, const char* variant, const Shape& x, const Shape& w, bool bias, Conv1dOptions o = {}) {
  Tensors inputs = {values(x, 1), values(w, 2)};
  if (bias) inputs.push_back(values({w[0]}, 3));
  auto b = [bias](const Tensors& t) { return bias ? t[2] : Tensor(); };
  l.samples.push_back({.op = "conv1d",
                       .variant = variant,
                       .inputs = inputs,
                       .call = [=](const Tensors& t) -> Tensors { return {conv1d(t[0], t[1], b(t), o)}; },
                       .reference = [=](const Tensors& t) -> Tensors {
                         const bool batched = t[0].dim() == 3;
                         const Tensor in = (batched ? t[0] : t[0].unsqueeze(0)).unsqueeze(2);
                         const int64_t pad = o.causal ? (t[1].size(2) - 1) * o.dilation : o.padding;
                         const Tensor y =
                             naive_conv(in, t[1].unsqueeze(2), b(t), {{1, o.stride}, {}, {1, o.dilation}, o.groups},
                                        {0, pad}, {0, o.causal ? 0 : o.padding})
                                 .squeeze(2);
                         return {batched ? y : y.squeeze(0)};
                       }});
}

void add_conv2d(SampleList& l, const char* variant, const Shape& x, const Shape& w, bool bias, Conv2dOptions o = {}) {
  Tensors inputs = {values(x, 1), values(w, 2)};
  if (bias) inputs.push_back(values({w[0]}, 3));
  auto b = [bias](const Tensors& t) { return bias ? t[2] : Tensor(); };
  l.samples.push_back({.op = "conv2d",
                       .variant = variant,
                       .inputs = inputs,
                       .call = [=](const Tensors& t) -> Tensors { return {conv2d(t[0], t[1], b(t), o)}; },
                       .reference = [=](const Tensors& t) -> Tensors {
                         const bool batched = t[0].dim() == 4;
                         const Tensor y =
                             naive_conv(batched ? t[0] : t[0].unsqueeze(0), t[1], b(t), o, o.padding, o.padding);
                         return {batched ? y : y.squeeze(0)};
                       }});
}

// PyTorch's rule, output by output.
Tensor naive_interpolate(const Tensor& x, int64_t size, InterpolateMode mode, bool align) {
  const int64_t n = x.size(-1);
  const Tensor rows = x.contiguous().reshape({-1, n});
  Shape shape = x.shape();
  shape.back() = size;
  return make(shape, [&](int64_t flat) {
    const int64_t row = flat / size, j = flat % size;
    const double ratio = static_cast<double>(n) / static_cast<double>(size), position = static_cast<double>(j);
    if (mode == InterpolateMode::nearest)
      return at(rows, {row, std::min(n - 1, static_cast<int64_t>(position * ratio + 1e-9))});
    double source = (position + 0.5) * ratio - 0.5;
    if (align) source = size == 1 ? 0 : position * static_cast<double>(n - 1) / static_cast<double>(size - 1);
    source = std::min(std::max(source, 0.0), static_cast<double>(n - 1));
    const auto low = static_cast<int64_t>(std::floor(source));
    const double part = source - static_cast<double>(low);
    return (1 - part) * at(rows, {row, low}) + (part > 0 ? part * at(rows, {row, std::min(low + 1, n - 1)}) : 0);
  });
}

void add_interpolate(SampleList& l, const char* variant, const Shape& x, int64_t size,
                     InterpolateMode mode = InterpolateMode::linear, bool align = false) {
  l.samples.push_back(
      {.op = "interpolate1d",
       .variant = variant,
       .inputs = {values(x, 4)},
       .call = [=](const Tensors& t) -> Tensors { return {interpolate1d(t[0], size, mode, align)}; },
       .reference = [=](const Tensors& t) -> Tensors { return {naive_interpolate(t[0], size, mode, align)}; }});
}

}  // namespace

void conv_samples(SampleList& l) {
  add_conv1d(l, "general", {2, 3, 9}, {4, 3, 3}, true);
  add_conv1d(l, "stride, padding, dilation", {2, 3, 12}, {4, 3, 3}, true, {.stride = 2, .padding = 3, .dilation = 2});
  add_conv1d(l, "taps that reach no input", {1, 2, 2}, {2, 2, 5}, false, {.stride = 3, .padding = 4});
  add_conv1d(l, "pointwise", {2, 5, 7}, {3, 5, 1}, true);
  add_conv1d(l, "windows side by side, with a rest", {2, 3, 10}, {4, 3, 3}, true, {.stride = 3});
  add_conv1d(l, "groups", {2, 4, 8}, {6, 2, 3}, true, {.padding = 1, .groups = 2});
  add_conv1d(l, "causal", {2, 3, 8}, {3, 3, 4}, true, {.dilation = 2, .causal = true});
  add_conv1d(l, "depthwise causal", {2, 4, 9}, {4, 1, 4}, true, {.groups = 4, .causal = true});
  add_conv1d(l, "depthwise, two outputs a channel, stride", {2, 3, 9}, {6, 1, 3}, true,
             {.stride = 2, .padding = 1, .groups = 3});
  add_conv1d(l, "depthwise, longer than 16", {1, 2, 40}, {2, 1, 3}, false, {.padding = 1, .groups = 2});
  add_conv1d(l, "one input channel", {2, 1, 9}, {3, 1, 3}, false, {.padding = 1});
  add_conv1d(l, "without batch dimension", {3, 6}, {2, 3, 2}, true);
  add_conv1d(l, "empty batch", {0, 3, 6}, {2, 3, 2}, true);
  l.errors.push_back({"conv1d",
                      [] {
                        conv1d(zeros({2, 3, 8}), zeros({4, 2, 3}));
                      },
                      "conv1d: input [2, 3, 8] does not fit weight [4, 2, 3] in 1 group"});
  l.errors.push_back({"conv1d",
                      [] {
                        conv1d(zeros({2, 3, 4}), zeros({4, 3, 3}), {}, {.dilation = 2});
                      },
                      "conv1d: weight [4, 3, 3] with dilation 2 is larger than the padded input [2, 3, 4]"});

  add_conv2d(l, "general", {2, 3, 5, 6}, {4, 3, 3, 2}, true);
  add_conv2d(l, "stride, padding, dilation", {1, 2, 7, 8}, {3, 2, 3, 3}, true, {{2, 1}, {1, 3}, {2, 2}, 1});
  add_conv2d(l, "groups", {2, 4, 4, 5}, {4, 2, 2, 3}, false, {{1, 1}, {1, 1}, {1, 1}, 2});
  add_conv2d(l, "depthwise", {2, 3, 5, 5}, {3, 1, 3, 3}, true, {{1, 2}, {1, 1}, {1, 1}, 3});
  add_conv2d(l, "pointwise with stride", {1, 3, 5, 4}, {2, 3, 1, 1}, true, {{2, 2}, {0, 0}, {1, 1}, 1});
  add_conv2d(l, "pointwise", {2, 3, 4, 5}, {4, 3, 1, 1}, true);
  add_conv2d(l, "patches", {2, 3, 4, 6}, {5, 3, 2, 3}, true, {{2, 3}, {0, 0}, {1, 1}, 1});
  add_conv2d(l, "patches of an image, with a rest", {3, 5, 6}, {4, 3, 2, 2}, false, {{2, 2}, {0, 0}, {1, 1}, 1});
  add_conv2d(l, "without batch dimension", {3, 4, 4}, {2, 3, 2, 2}, true);
  l.errors.push_back({"conv2d",
                      [] {
                        conv2d(zeros({2, 3, 8}), zeros({4, 3, 3}));
                      },
                      "conv2d: expected a weight of 4 dimensions, got [4, 3, 3]"});

  add_interpolate(l, "linear, twice as long", {2, 3, 4}, 8);
  add_interpolate(l, "linear, odd ratio", {2, 7}, 5);
  add_interpolate(l, "linear, aligned", {2, 5}, 9, InterpolateMode::linear, true);
  add_interpolate(l, "linear, aligned, to one", {2, 5}, 1, InterpolateMode::linear, true);
  add_interpolate(l, "linear, from one", {3, 1}, 4);
  add_interpolate(l, "nearest, four times as long", {2, 3}, 12, InterpolateMode::nearest);
  add_interpolate(l, "nearest, shorter", {2, 10}, 4, InterpolateMode::nearest);
  add_interpolate(l, "no rows", {0, 4}, 8);
  l.errors.push_back({"interpolate1d",
                      [] {
                        interpolate1d(zeros({2, 3}), 6, InterpolateMode::nearest, true);
                      },
                      "interpolate1d: align_corners is for linear interpolation only"});
}

}  // namespace weft::test
