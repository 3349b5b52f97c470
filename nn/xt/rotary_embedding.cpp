#include <weft/nn/xt/rotary_embedding.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft::xt {
namespace {

// In float32, as the original computes them.
Tensor frequencies(const RotaryEmbeddingConfig& c) {
  const double stretch =
      c.base_rescale_factor == 1
          ? 1
          : std::pow(c.base_rescale_factor, static_cast<double>(c.dim) / static_cast<double>(c.dim - 2));
  const auto base = static_cast<float>(c.base * stretch);
  std::vector<float> f;
  for (int64_t k = 0; k < c.dim; k += 2)
    f.push_back(1 / std::pow(base, static_cast<float>(k) / static_cast<float>(c.dim)));
  return tensor(f);
}

Tensor scales(const RotaryEmbeddingConfig& c) {
  const auto d = static_cast<double>(c.dim);
  std::vector<float> s;
  for (int64_t k = 0; k < c.dim; k += 2)
    s.push_back((static_cast<float>(k) + static_cast<float>(0.4 * d)) / static_cast<float>(1.4 * d));
  return tensor(s);
}

// The last n places, with a dimension for heads: [b or 1, 1, n, r / 2].
Tensor last_places(const Tensor& x, int64_t n, DType dtype) {
  return unsqueeze(slice(x, 1, x.size(1) - n), 1).to(dtype);
}

}  // namespace

RotaryEmbedding::RotaryEmbedding(const RotaryEmbeddingConfig& c) : config_(c) {
  check(c.dim > 0 && c.dim % 2 == 0, "RotaryEmbedding: dim must be positive and even, got ", c.dim);
  check(c.interpolation_factor >= 1, "RotaryEmbedding: interpolation_factor must be at least 1, got ",
        c.interpolation_factor);
  check(c.base_rescale_factor == 1 || c.dim > 2, "RotaryEmbedding: base_rescale_factor needs a dim above 2");
  inv_freq = register_buffer("inv_freq", frequencies(c));
  if (c.use_xpos) scale = register_buffer("scale", scales(c));
}

Tensor RotaryEmbedding::angles(const Tensor& positions) const {
  check(positions.dim() == 1 || positions.dim() == 2, "RotaryEmbedding: expected positions [n] or [b, n], got ",
        positions.shape());
  // At least float32: an angle reaches the length of the text, and a half-precision frequency would be off by whole
  // turns.
  const Tensor f = is_half(inv_freq.dtype()) ? frequencies(config_).to(inv_freq.device()) : inv_freq;
  const Tensor p = positions.dim() == 1 ? unsqueeze(positions, 0) : positions;
  const Tensor a = unsqueeze(p.to(f.dtype()), -1) * f;  // [b or 1, n, dim / 2]
  return config_.interpolation_factor == 1 ? a : a / config_.interpolation_factor;
}

Rotation RotaryEmbedding::at(const Tensor& positions, std::optional<double> middle) const {
  const Tensor a = angles(positions);
  Rotation r{cos(a), sin(a), {}};
  if (!config_.use_xpos) return r;
  const Tensor p = positions.dim() == 1 ? unsqueeze(positions, 0) : positions;
  const Tensor from_middle =
      middle ? p.to(a.dtype()) - *middle : p.to(a.dtype()) - floor((amax(p).to(a.dtype()) + 1) / 2);
  const Tensor base = is_half(scale.dtype()) ? scales(config_).to(scale.device()) : scale;
  r.scale = pow(base, unsqueeze(from_middle / config_.scale_base, -1));
  return r;
}

Tensor RotaryEmbedding::forward(const Tensor& positions) const {
  const Tensor a = unsqueeze(angles(positions), -1);
  return flatten(cat({a, a}, -1), -2, -1);
}

Tensor apply_rotary_pos_emb(const Tensor& t, const Rotation& r, bool is_key) {
  const int64_t n = t.size(-2), pairs = r.cos.size(-1);
  check(n <= r.cos.size(1) && 2 * pairs <= t.size(-1), "apply_rotary_pos_emb: ", r.cos.shape(), " turns do not fit ",
        t.shape());
  // Turned in at least float32.
  const DType dtype = is_half(t.dtype()) ? float32 : t.dtype();
  Tensor c = last_places(r.cos, n, dtype), s = last_places(r.sin, n, dtype);
  if (r.scale.defined()) {
    const Tensor by = last_places(r.scale, n, dtype);
    c = is_key ? c / by : c * by, s = is_key ? s / by : s * by;
  }
  const Tensor turning = unflatten(slice(t, -1, 0, 2 * pairs), -1, {pairs, 2}).to(dtype);
  const Tensor x = select(turning, -1, 0), y = select(turning, -1, 1);
  const Tensor turned = flatten(stack({x * c - y * s, y * c + x * s}, -1), -2, -1).to(t.dtype());
  return 2 * pairs == t.size(-1) ? turned : cat({turned, slice(t, -1, 2 * pairs)}, -1);
}

}  // namespace weft::xt
