#include <weft/nn/xt/rotary_embedding.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/reduce.h>
#include <weft/ops/rotary.h>
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

// The last n places: [n, r / 2], or [b, n, r / 2].
Tensor last_places(const Tensor& x, int64_t n) {
  const Tensor last = slice(x, 1, x.size(1) - n);
  return x.size(0) == 1 ? select(last, 0, 0) : last;
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
  Rotation r{a, {}};
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
  const int64_t n = t.size(-2), pairs = r.angles.size(-1);
  check(n <= r.angles.size(1) && 2 * pairs <= t.size(-1), "apply_rotary_pos_emb: ", r.angles.shape(),
        " turns do not fit ", t.shape());
  RotaryOptions options;
  if (r.scale.defined()) options.scale = is_key ? 1 / last_places(r.scale, n) : last_places(r.scale, n);
  return rotary(t, last_places(r.angles, n), options);
}

}  // namespace weft::xt
