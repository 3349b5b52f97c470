#include <weft/nn/flash/rotary_embedding.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/rotary.h>
#include <weft/ops/shape.h>

#include <cmath>
#include <numbers>

namespace weft::flash {
namespace {

Tensor initial_frequencies(const RotaryEmbeddingConfig& c) {
  if (c.freqs_for == "pixel") return linspace(1, c.max_freq / 2, c.dim / 2) * std::numbers::pi;
  if (c.freqs_for == "constant") return ones({c.num_freqs});
  const double stretch =
      c.theta_rescale_factor == 1
          ? 1
          : std::pow(c.theta_rescale_factor, static_cast<double>(c.dim) / static_cast<double>(c.dim - 2));
  const float theta = static_cast<float>(c.theta * stretch);
  std::vector<float> f;
  for (int64_t k = 0; k < c.dim; k += 2)
    f.push_back(1 / std::pow(theta, static_cast<float>(k) / static_cast<float>(c.dim)));
  return tensor(f);
}

// What the first and the second feature of each pair is multiplied by: [n, pairs] each.
struct Turn {
  Tensor cos_first, sin_first, cos_second, sin_second;
};

// The pairs of features of t [..., n, d] from start on, turned; the others as they are.
Tensor turn(const Tensor& t, int64_t start, const Turn& by) {
  const int64_t pairs = by.cos_first.size(-1), end = start + 2 * pairs;
  const Tensor middle = unflatten(slice(t, -1, start, end), -1, {pairs, 2});
  const Tensor x = select(middle, -1, 0), y = select(middle, -1, 1);  // [..., n, pairs]
  const Tensor turned = stack({x * by.cos_first - y * by.sin_first, y * by.cos_second + x * by.sin_second}, -1);
  return cat({slice(t, -1, 0, start), flatten(turned, -2, -1).to(t.dtype()), slice(t, -1, end)}, -1);
}

}  // namespace

RotaryEmbedding::RotaryEmbedding(const RotaryEmbeddingConfig& config) : config_(config) {
  check(config.dim > 0 && config.dim % 2 == 0, "RotaryEmbedding: dim must be positive and even, got ", config.dim);
  check(config.freqs_for == "lang" || config.freqs_for == "pixel" || config.freqs_for == "constant",
        "RotaryEmbedding: freqs_for must be lang, pixel or constant, got ", config.freqs_for);
  check(config.interpolate_factor >= 1, "RotaryEmbedding: interpolate_factor must be at least 1, got ",
        config.interpolate_factor);
  check(config.theta_rescale_factor == 1 || config.dim > 2,
        "RotaryEmbedding: theta_rescale_factor needs a dim above 2");
  const Tensor initial = initial_frequencies(config);
  freqs = config.learned_freq ? register_parameter("freqs", initial) : register_buffer("freqs", initial);
}

// At least float32: an angle reaches the length of the text, and a half-precision frequency would be off by whole
// turns.
Tensor RotaryEmbedding::frequencies() const {
  if (!is_half(freqs.dtype())) return freqs;
  return config_.learned_freq ? freqs.to(float32) : initial_frequencies(config_).to(freqs.device());
}

Tensor RotaryEmbedding::forward(const Tensor& positions) const {
  const Tensor f = frequencies();
  const Tensor angles = unsqueeze(unsqueeze(positions.to(f.dtype()), -1) * f, -1);  // [..., k, 1]
  Shape pairs = angles.shape();
  pairs.back() = 2;
  return flatten(expand(angles, pairs), -2, -1);
}

Tensor RotaryEmbedding::angles(int64_t n, int64_t offset) const {
  const Tensor f = frequencies();
  const auto first = static_cast<double>(offset), last = first + static_cast<double>(n);
  Tensor positions = arange(first, last, 1, {.dtype = f.dtype(), .device = f.device()});
  if (config_.interpolate_factor != 1) positions = positions / config_.interpolate_factor;
  return unsqueeze(positions, -1) * f;
}

Tensor RotaryEmbedding::rotate_queries_or_keys(const Tensor& t, int64_t seq_dim, int64_t offset) const {
  check(seq_dim <= -2 && t.dim() >= -seq_dim, "rotate_queries_or_keys: seq_dim ", seq_dim, " does not fit ", t.shape());
  return rotary(t, angles(t.size(seq_dim), offset), {.seq_dim = seq_dim});
}

Tensor apply_rotary_emb(const Tensor& freqs, const Tensor& t, int64_t start_index, double scale) {
  check(t.dim() >= 2 && freqs.dim() == 2, "apply_rotary_emb: expected angles [m, r] and t [..., n, d], got ",
        freqs.shape(), " and ", t.shape());
  const int64_t n = t.size(-2), r = freqs.size(1);
  check(r % 2 == 0 && start_index >= 0 && start_index + r <= t.size(-1), "apply_rotary_emb: ", r, " features from ",
        start_index, " on do not fit t ", t.shape());
  check(n <= freqs.size(0), "apply_rotary_emb: ", freqs.size(0), " angles for ", n, " positions");
  const Tensor last = slice(freqs, 0, freqs.size(0) - n);                 // [n, r]
  const Tensor a = slice(last, 1, 0, r, 2), b = slice(last, 1, 1, r, 2);  // [n, r / 2]
  return turn(t, start_index, {cos(a) * scale, sin(a) * scale, cos(b) * scale, sin(b) * scale});
}

}  // namespace weft::flash
