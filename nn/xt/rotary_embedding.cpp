#include <weft/nn/xt/places.h>
#include <weft/nn/xt/rotary_embedding.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/reduce.h>
#include <weft/ops/rotary.h>
#include <weft/ops/shape.h>

#include <cmath>

namespace weft::xt {
namespace {

double stretched_base(const RotaryEmbeddingConfig& c) {
  const double stretch =
      c.base_rescale_factor == 1
          ? 1
          : std::pow(c.base_rescale_factor, static_cast<double>(c.dim) / static_cast<double>(c.dim - 2));
  return c.base * stretch;
}

// In float32, as the original computes them.
Tensor frequencies(const RotaryEmbeddingConfig& c) {
  const auto base = static_cast<float>(stretched_base(c));
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

// The same where they are needed: for models whose own are of half precision. An angle reaches the length of the text,
// and such a frequency would be off by whole turns.
Tensor pair_shares(const RotaryEmbeddingConfig& c, Device device) {  // 0, 2 / dim, 4 / dim, ...
  return places(0, (c.dim + 1) / 2, device).to(float32) * (2 / static_cast<double>(c.dim));
}
Tensor frequencies(const RotaryEmbeddingConfig& c, Device device) {
  return pow(Scalar(stretched_base(c)), neg(pair_shares(c, device)));
}
Tensor scales(const RotaryEmbeddingConfig& c, Device device) { return (pair_shares(c, device) + 0.4) / 1.4; }

}  // namespace

RotaryEmbedding::RotaryEmbedding(const RotaryEmbeddingConfig& c) : config_(c) {
  check(c.dim > 0, "RotaryEmbedding: dim must be positive, got ", c.dim);
  check(c.interpolation_factor >= 1, "RotaryEmbedding: interpolation_factor must be at least 1, got ",
        c.interpolation_factor);
  check(c.base_rescale_factor == 1 || c.dim > 2, "RotaryEmbedding: base_rescale_factor needs a dim above 2");
  inv_freq = register_buffer("inv_freq", frequencies(c));
  if (c.use_xpos) scale = register_buffer("scale", scales(c));
}

Tensor RotaryEmbedding::angles(const Tensor& positions) const {
  check(positions.dim() == 1 || positions.dim() == 2, "RotaryEmbedding: expected positions [n] or [b, n], got ",
        positions.shape());
  const Tensor f = is_half(inv_freq.dtype()) ? frequencies(config_, inv_freq.device()) : inv_freq;
  const Tensor a = unsqueeze(positions.to(f.dtype()), -1) * f;  // [..., n, dim / 2]
  return config_.interpolation_factor == 1 ? a : a / config_.interpolation_factor;
}

Rotation RotaryEmbedding::at(const Tensor& positions, std::optional<double> middle) const {
  Rotation r{angles(positions), {}};
  if (!config_.use_xpos) return r;
  const Tensor p = positions.to(r.angles.dtype());
  const Tensor from_middle = middle ? p - *middle : p - floor((amax(p) + 1) / 2);
  const Tensor base = is_half(scale.dtype()) ? scales(config_, scale.device()) : scale;
  r.scale = pow(base, unsqueeze(from_middle / config_.scale_base, -1));
  return r;
}

Tensor RotaryEmbedding::forward(const Tensor& positions) const {
  const Tensor a = unsqueeze(angles(positions.dim() == 1 ? unsqueeze(positions, 0) : positions), -1);
  return flatten(cat({a, a}, -1), -2, -1);
}

Tensor apply_rotary_pos_emb(const Tensor& t, const Rotation& r, bool is_key) {
  const int64_t n = t.size(-2), given = r.angles.size(-2);
  check(n <= given, "apply_rotary_pos_emb: ", given, " turns for ", n, " places");
  const auto last = [&](const Tensor& x) {
    const Tensor places = slice(x, -2, given - n);
    return places.dim() == 3 && places.size(0) == 1 ? squeeze(places, 0) : places;
  };
  RotaryOptions options;
  if (r.scale.defined()) options.scale = is_key ? 1 / last(r.scale) : last(r.scale);
  return rotary(t, last(r.angles), options);
}

}  // namespace weft::xt
