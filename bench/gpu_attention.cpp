// Attention in bfloat16: 16,384 tokens a batch and 2,048 channels, heads read from [b, n, h, d] as projections leave
// them. Operations: 4·d a pair of query and key that sees it; 2.5 times that backward.
#include "gpu.h"

namespace weft::bench::gpu {

namespace {

struct Setting {
  std::string name;
  int64_t d, n;
  bool causal;
  AttentionOptions options = {};  // tensors are made by prepare
  bool mask = false, bias = false;
  std::string family = "attention";
};

Tensor heads(int64_t b, int64_t h, int64_t n, int64_t d) {
  return randn({b, n, h, d}, {.dtype = bfloat16, .device = Device::cuda()}).transpose(1, 2);
}

double pairs(double n, bool causal, const AttentionOptions& o) {
  if (o.window_left.value_or(n) < n) return n * static_cast<double>(*o.window_left + 1);
  return causal ? n * n / 2 : n * n;
}

void add_case(const Setting& s, bool backward) {
  const int64_t h = 2048 / s.d, b = 16384 / s.n;
  auto prepare = [=]() -> Step {
    const Tensor q = heads(b, h, s.n, s.d), k = heads(b, h, s.n, s.d), v = heads(b, h, s.n, s.d);
    AttentionOptions o = s.options;
    o.causal = s.causal;
    if (s.mask) o.mask = lt(arange(s.n).to(Device::cuda()), s.n - 64).expand({b, 1, 1, s.n});
    Tensors inputs{q, k, v};
    if (s.bias) inputs.push_back(randn({h, s.n, s.n}, {.dtype = bfloat16, .device = Device::cuda()}));
    auto f = [o](const Tensors& x) {
      AttentionOptions own = o;
      if (x.size() > 3) own.bias = x[3];
      return scaled_dot_product_attention(x[0], x[1], x[2], own);
    };
    if (!backward) {
      return [=] {
        NoGrad guard;
        f(inputs);
      };
    }
    for (Tensor& x : inputs) x.requires_grad_();
    const Tensor y = f(inputs), upstream = heads(b, h, s.n, s.d);
    return [=] { grad({y}, inputs, {upstream}, {.retain_graph = true}); };
  };
  const double rows = static_cast<double>(b * h);
  add(s.family + "/" + std::to_string(s.d) + "/" + std::to_string(s.n) + "/" + s.name + "/bf16/" +
          (backward ? "bwd" : "fwd"),
      prepare,
      rows * pairs(static_cast<double>(s.n), s.causal, s.options) * static_cast<double>(s.d) * 4 *
          (backward ? 2.5 : 1));
}

// One new token for each of b sequences, with 8192 keys in a cache; length on the device.
void add_decode_case(int64_t b, int64_t h, int64_t hk, int64_t d) {
  constexpr int64_t kLength = 8192;
  auto prepare = [=]() -> Step {
    const Tensor q = heads(b, h, 1, d), k = heads(b, hk, kLength, d), v = heads(b, hk, kLength, d);
    const Tensor length = scalar(kLength, {.dtype = int64, .device = Device::cuda()});
    return [=] {
      NoGrad guard;
      scaled_dot_product_attention(q, k, v, {.causal = true, .kv_length = length});
    };
  };
  add("attention/" + std::to_string(d) + "/decode_" + std::to_string(b) + "x" + std::to_string(h) + "/" +
          std::to_string(hk) + "x8192/bf16/fwd",
      prepare, 0, static_cast<double>(2 * b * hk * kLength * d * 2));
}

// A gated attention unit: 1024 values a key, one head.
void add_gau_case(bool backward) {
  const int64_t b = 16, n = 1024, d = 128, dv = 1024;
  auto prepare = [=]() -> Step {
    Tensors x{heads(b, 1, n, d), heads(b, 1, n, d), heads(b, 1, n, dv)};
    auto f = [](const Tensors& t) {
      return scaled_dot_product_attention(t[0], t[1], t[2],
                                          {.causal = true, .scale = 1.0 / 1024, .fn = AttentionFn::laplace});
    };
    if (!backward) {
      return [=] {
        NoGrad guard;
        f(x);
      };
    }
    for (Tensor& t : x) t.requires_grad_();
    const Tensor y = f(x), upstream = heads(b, 1, n, dv);
    return [=] { grad({y}, x, {upstream}, {.retain_graph = true}); };
  };
  const double one = static_cast<double>(b * n * n / 2 * 2);
  add(std::string("attention/gau_laplace/1024/causal/bf16/") + (backward ? "bwd" : "fwd"), prepare,
      one * (backward ? 2 * dv + 3 * d : dv + d));
}

}  // namespace

void add_attention_cases() {
  for (const bool backward : {false, true}) {
    for (const int64_t d : {64, 128}) {
      for (const int64_t n : {1024, 4096, 16384}) add_case({"causal", d, n, true}, backward);
    }
    add_case({"full", 128, 16384, false}, backward);
    for (const int64_t d : {64, 128}) {
      add_case({"window256", d, 4096, true, {.window_left = 255}}, backward);
      add_case({"mask", d, 4096, false, {}, true}, backward);
      add_case({"bias", d, 1024, true, {}, false, true}, backward);
      add_case({"dropout", d, 4096, true, {.dropout = 0.1}}, backward);
    }
    add_gau_case(backward);
    // A window that hides nothing: the kernels of attention_half.h, where the cases above may have Hopper's own.
    const AttentionOptions wide = {.window_left = 1 << 20};
    for (const int64_t d : {64, 128}) {
      for (const int64_t n : {1024, 4096, 16384})
        add_case({"causal", d, n, true, wide, false, false, "attention_half"}, backward);
    }
    add_case({"full", 128, 16384, false, wide, false, false, "attention_half"}, backward);
  }
  add_decode_case(1, 32, 32, 128), add_decode_case(1, 32, 8, 128), add_decode_case(16, 16, 16, 64);
}

}  // namespace weft::bench::gpu
