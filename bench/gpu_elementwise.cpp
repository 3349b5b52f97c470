// Cases that only move memory: elementwise operations, copies, reductions, scans and orders.
#include "gpu.h"

namespace weft::bench::gpu {

namespace {

Tensor random(const Shape& shape, DType dtype) { return randn(shape, {.dtype = dtype, .device = Device::cuda()}); }

const char* tag(DType d) { return d == bfloat16 ? "bf16" : d == float16 ? "fp16" : "fp32"; }

using Call = std::function<Tensor(const Tensors&)>;

// f on tensors of these shapes, forward; moved: how many tensors of the first shape a step reads and writes.
void forward(const std::string& name, const std::vector<Shape>& shapes, DType dtype, double moved, Call f) {
  const double bytes = moved * static_cast<double>(shapes[0].numel()) * static_cast<double>(size_of(dtype));
  add(
      concat(name, "/", tag(dtype), "/fwd"),
      [=]() -> Step {
        Tensors x;
        for (const Shape& s : shapes) x.push_back(random(s, dtype));
        return [=] {
          NoGrad guard;
          f(x);
        };
      },
      0, bytes);
}

// The same, forward and backward.
void step(const std::string& name, const std::vector<Shape>& shapes, DType dtype, double moved, Call f) {
  const double bytes = moved * static_cast<double>(shapes[0].numel()) * static_cast<double>(size_of(dtype));
  add(
      concat(name, "/", tag(dtype), "/step"),
      [=]() -> Step {
        Tensors x;
        for (const Shape& s : shapes) x.push_back(random(s, dtype));
        return forward_backward(f, x);
      },
      0, bytes);
}

}  // namespace

void add_elementwise_cases() {
  const Shape tokens{16, 1024, 768}, wide{16384, 3072}, small{1024, 512};
  for (const DType d : {float32, bfloat16}) {
    forward("add/16x1024x768", {tokens, tokens}, d, 3, [](const Tensors& x) { return add(x[0], x[1]); });
    forward("add_bias/16x1024x768", {tokens, {768}}, d, 2, [](const Tensors& x) { return add(x[0], x[1]); });
    forward("mul_rows/16x1024x768", {tokens, {16, 1024, 1}}, d, 2, [](const Tensors& x) { return mul(x[0], x[1]); });
    forward("mul/1024x512", {small, small}, d, 3, [](const Tensors& x) { return mul(x[0], x[1]); });
    forward("scale/16384x3072", {wide}, d, 2, [](const Tensors& x) { return mul(x[0], 0.5); });
    forward("gelu/16384x3072", {wide}, d, 2, [](const Tensors& x) { return gelu(x[0]); });
    step("gelu/16384x3072", {wide}, d, 5, [](const Tensors& x) { return gelu(x[0]); });
    step("gelu_tanh/16384x3072", {wide}, d, 5, [](const Tensors& x) { return gelu_tanh(x[0]); });
    step("silu/16384x3072", {wide}, d, 5, [](const Tensors& x) { return silu(x[0]); });
    step("mul/16384x3072", {wide, wide}, d, 8, [](const Tensors& x) { return mul(x[0], x[1]); });
    step("scale_offset/16x1024x768", {tokens, {768}, {768}}, d, 7,
         [](const Tensors& x) { return add(mul(x[0], x[1]), x[2]); });
    forward("geglu/16384x6144", {{16384, 6144}}, d, 1.5, [](const Tensors& x) { return geglu(x[0]); });
    step("geglu/16384x6144", {{16384, 6144}}, d, 4, [](const Tensors& x) { return geglu(x[0]); });
    step("swiglu/16384x6144", {{16384, 6144}}, d, 4, [](const Tensors& x) { return swiglu(x[0]); });
    forward("permute/16x1024x12x64", {{16, 1024, 12, 64}}, d, 2, [](const Tensors& x) {
      return x[0].permute({0, 2, 1, 3}).contiguous();
    });
    forward("transpose/16x1024x768", {tokens}, d, 2,
            [](const Tensors& x) { return x[0].transpose(1, 2).contiguous(); });
    forward("chunk/16384x3072", {wide}, d, 4, [](const Tensors& x) {
      const Tensors c = chunk(x[0], 2, -1);
      return cat({c[0].contiguous(), c[1].contiguous()}, 0).slice(0, 0, 1);
    });
    forward("cat/16384x768+768", {{16384, 768}, {16384, 768}}, d, 4, [](const Tensors& x) {
      return cat({x[0], x[1]}, -1);
    });
    forward("zeros/16384x3072", {wide}, d, 1, [](const Tensors& x) { return zeros_like(x[0]); });
    forward("ones/16384x3072", {wide}, d, 1, [](const Tensors& x) { return ones_like(x[0]); });
    forward("sum0/16384x768", {{16384, 768}}, d, 1, [](const Tensors& x) { return sum(x[0], 0); });
    forward("sum0/16384x3072", {wide}, d, 1, [](const Tensors& x) { return sum(x[0], 0); });
    forward("sum1/16384x768", {{16384, 768}}, d, 1, [](const Tensors& x) { return sum(x[0], 1); });
    forward("sum1/16x1024x768", {tokens}, d, 1, [](const Tensors& x) { return sum(x[0], 1); });
    forward("sum/16384x3072", {wide}, d, 1, [](const Tensors& x) { return sum(x[0]); });
    forward("amax/16384x3072", {wide}, d, 1, [](const Tensors& x) { return amax(x[0], -1); });
    forward("argmax/16384x3072", {wide}, d, 1, [](const Tensors& x) { return argmax(x[0], -1); });
    forward("topk8/16384x512", {{16384, 512}}, d, 1, [](const Tensors& x) { return topk(x[0], 8).values; });
    forward("sort/1024x4096", {{1024, 4096}}, d, 1, [](const Tensors& x) { return argsort(x[0]); });
    forward("sort/1048576", {{1048576}}, d, 1, [](const Tensors& x) { return argsort(x[0]); });
    forward("cumsum0/16384x768", {{16384, 768}}, d, 2, [](const Tensors& x) { return cumsum(x[0], 0); });
    forward("cumsum1/16384x768", {{16384, 768}}, d, 2, [](const Tensors& x) { return cumsum(x[0], 1); });
    forward("cumsum1/16x4x128x1024", {{16, 4, 128, 1024}}, d, 2, [](const Tensors& x) { return cumsum(x[0], 1); });
  }
  for (const auto& [from, to] : {std::pair{float32, bfloat16}, {bfloat16, float32}}) {
    const double bytes = static_cast<double>(wide.numel()) * 6;
    add(
        concat("cast/16384x3072/", tag(from), "/", tag(to)),
        [=, from = from, to = to]() -> Step {
          const Tensor x = random(wide, from);
          return [=] { x.to(to); };
        },
        0, bytes);
  }
  add(
      "add/16x1024x768/fp32+bf16/fwd",
      [=]() -> Step {
        const Tensor a = random(tokens, float32), b = random(tokens, bfloat16);
        return [=] { add(a, b); };
      },
      0, static_cast<double>(tokens.numel()) * 10);
  add(
      "where/16384x3072/bf16/fwd",
      [=]() -> Step {
        const Tensor a = random(wide, bfloat16), mask = gt(a, 0);
        return [=] { masked_fill(a, mask, 0); };
      },
      0, static_cast<double>(wide.numel()) * 5);
  add(
      "copy/16384x3072/fp32",
      [=]() -> Step {
        const Tensor a = random(wide, float32), b = empty_like(a);
        return [=] { Tensor(b).copy_(a); };
      },
      0, static_cast<double>(wide.numel()) * 8);
}

}  // namespace weft::bench::gpu
