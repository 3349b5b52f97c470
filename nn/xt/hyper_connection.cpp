#include <weft/nn/xt/hyper_connection.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/matmul.h>
#include <weft/ops/shape.h>

namespace weft::xt {
namespace {

// [s, views + s]: the views read one stream, and each stream goes on as it is.
Tensor initial_alpha(const HyperConnectionConfig& c) {
  const int64_t s = c.num_residual_streams, v = c.num_input_views, columns = v + s;
  std::vector<float> alpha(static_cast<size_t>(s * columns), 0.0f);
  for (int64_t i = 0; i < s; ++i) {
    for (int64_t j = 0; j < v; ++j) alpha[static_cast<size_t>(i * columns + j)] = i == c.layer_index % s;
    alpha[static_cast<size_t>(i * columns + v + i)] = 1;
  }
  return tensor(alpha, {s, columns});
}

}  // namespace

HyperConnection::HyperConnection(const HyperConnectionConfig& c) : config_(c), norm_(Shape{c.dim}, 1e-5, true, false) {
  check(c.dim > 0 && c.num_residual_streams > 1 && c.num_input_views > 0,
        "HyperConnection: expected dim > 0, streams > 1 and views > 0, got ", c.dim, ", ", c.num_residual_streams,
        " and ", c.num_input_views);
  const int64_t s = c.num_residual_streams;
  register_module("norm", norm_);
  static_beta_ = register_parameter("static_beta", ones({s}));
  static_alpha_ = register_parameter("static_alpha", initial_alpha(c));
  dynamic_alpha_fn_ = register_parameter("dynamic_alpha_fn", zeros({c.dim, s + c.num_input_views}));
  dynamic_alpha_scale_ = register_parameter("dynamic_alpha_scale", full({}, 1e-2));
  dynamic_beta_fn_ = register_parameter("dynamic_beta_fn", zeros({c.dim}));
  dynamic_beta_scale_ = register_parameter("dynamic_beta_scale", full({}, 1e-2));
}

Tensor HyperConnection::squashed(const Tensor& x) const { return config_.tanh ? tanh(x) : x; }

Stream HyperConnection::prepare(const Tensor& x) const {
  const int64_t s = config_.num_residual_streams, views = config_.num_input_views;
  const Tensor streams = transpose(unflatten(x, 0, {-1, s}), 1, 2);  // [b, n, s, d]
  const Tensor normed = norm_(streams);
  const Tensor alpha =
      squashed(matmul(normed, dynamic_alpha_fn_)) * dynamic_alpha_scale_ + static_alpha_;  // [b, n, s, views + s]
  const Tensor beta = squashed(matmul(normed, dynamic_beta_fn_)) * dynamic_beta_scale_ + static_beta_;  // [b, n, s]
  const Tensor mixed = matmul(transpose(alpha, -1, -2), streams);  // [b, n, views + s, d]
  const Tensor input = views == 1 ? select(mixed, 2, 0) : movedim(slice(mixed, 2, 0, views), 2, 0);
  return {input, slice(mixed, 2, views), beta};
}

Tensor HyperConnection::combine(const Tensor& out, const Stream& stream) const {
  const Tensor streams = unsqueeze(out, 2) * unsqueeze(stream.beta, -1) + stream.residual;  // [b, n, s, d]
  return flatten(transpose(streams, 1, 2), 0, 1);
}

}  // namespace weft::xt
