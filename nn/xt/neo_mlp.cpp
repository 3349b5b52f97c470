#include <weft/nn/init.h>
#include <weft/nn/xt/layer.h>
#include <weft/nn/xt/neo_mlp.h>
#include <weft/nn/xt/wrapper_parts.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/reduce.h>
#include <weft/ops/shape.h>

#include <numbers>

namespace weft::xt {
namespace {

AttentionLayersConfig encoder_config(const NeoMLPConfig& c) {
  check(c.dim_in > 0 && c.dim_hidden >= 0 && c.dim_out > 0 && c.dim_model > 0,
        "NeoMLP: dim_in, dim_out and dim_model must be positive, got ", c.dim_in, ", ", c.dim_out, " and ",
        c.dim_model);
  AttentionLayersConfig layers = c.encoder_kwargs;
  layers.dim = c.dim_model, layers.depth = c.depth;
  return layers;
}

}  // namespace

Fields fields(NeoMLPConfig& c) {
  return {{"dim_in", &c.dim_in},
          {"dim_hidden", &c.dim_hidden},
          {"dim_out", &c.dim_out},
          {"dim_model", &c.dim_model},
          {"depth", &c.depth}};
}

NeoMLP::NeoMLP(const NeoMLPConfig& c)
    : config_(c),
      fourier_(std::make_shared<Linear>(1, c.dim_model)),
      after_fourier_(std::make_shared<Linear>(c.dim_model, c.dim_model)),
      transformer_(std::make_shared<Encoder>(encoder_config(c))) {
  const auto embedding = [&](const char* name, int64_t nodes) {
    const Tensor t = register_parameter(name, empty({nodes, c.dim_model}));
    init::normal_(t, 0, 0.02);
    return t;
  };
  input_embed_ = embedding("input_embed", c.dim_in), hidden_embed_ = embedding("hidden_embed", c.dim_hidden);
  output_embed_ = embedding("output_embed", c.dim_out);
  // random_fourier.0.proj stays as it was drawn.
  const auto random = register_module("random_fourier", std::make_shared<Numbered>("Sequential"));
  const auto embed = std::make_shared<Numbered>("RandomFourierEmbed");
  fourier_->requires_grad_(false);
  embed->add("proj", fourier_), random->add("0", embed), random->add("1", after_fourier_);
  register_module("transformer", transformer_);
  to_output_weights_ = register_parameter("to_output_weights", randn({c.dim_out, c.dim_model}));
  to_output_bias_ = register_parameter("to_output_bias", zeros({c.dim_out}));
}

NeoMLP::Output NeoMLP::run(const Tensor& given) const {
  check((given.dim() == 1 || given.dim() == 2) && given.size(-1) == config_.dim_in, "NeoMLP: expected x [batch, ",
        config_.dim_in, "], got ", given.shape());
  const Tensor x = given.dim() == 1 ? unsqueeze(given, 0) : given;
  const int64_t b = x.size(0), in = config_.dim_in, hidden = config_.dim_hidden;
  const Tensor waves = cos(fourier_->forward(unsqueeze(x, -1)) * (2 * std::numbers::pi));  // [b, dim_in, dim_model]
  const Tensor nodes =
      cat({after_fourier_->forward(waves) + input_embed_, repeated(hidden_embed_, b), repeated(output_embed_, b)}, 1);
  const Tensor y = transformer_->forward(nodes);
  Output o{{}, slice(y, 1, 0, in), slice(y, 1, in, in + hidden), slice(y, 1, in + hidden)};
  o.out = sum(o.output_embed * to_output_weights_, -1) + to_output_bias_;
  if (given.dim() == 1) o.out = squeeze(o.out, 0);
  return o;
}

}  // namespace weft::xt
