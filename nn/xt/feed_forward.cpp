#include <weft/nn/container.h>
#include <weft/nn/init.h>
#include <weft/nn/xt/feed_forward.h>
#include <weft/ops/create.h>
#include <weft/ops/elementwise.h>
#include <weft/ops/linear.h>
#include <weft/ops/shape.h>

namespace weft::xt {
namespace {

class ReluSquared : public Module {
 public:
  Tensor forward(const Tensor& x) const override { return relu_squared(x); }
  std::string name() const override { return "ReluSquared"; }
};

Activation activation(const FeedForwardConfig& c) {
  return c.relu_squared ? Activation::none : c.swish ? Activation::silu : Activation::gelu;
}

std::shared_ptr<Module> activation_module(const FeedForwardConfig& c) {
  if (c.relu_squared) return std::make_shared<ReluSquared>();
  if (c.swish) return std::make_shared<SiLU>();
  return std::make_shared<GELU>();
}

Tensor activate(const Tensor& x, Activation f, bool squared) {
  return squared ? relu_squared(x) : f == Activation::silu ? silu(x) : gelu(x);
}

}  // namespace

Fields fields(FeedForwardConfig& c) {
  Fields f{{"dim", &c.dim}};
  WEFT_XT_FEED_FORWARD_OPTIONS(WEFT_XT_FIELD, )
  return f;
}

GLU::GLU(int64_t dim_in, int64_t dim_out, Activation activation, bool relu_squared, bool mult_bias)
    : activation_(activation), relu_squared_(relu_squared), proj_(dim_in, 2 * dim_out) {
  register_module("proj", proj_);
  if (mult_bias) mult_bias_ = register_parameter("mult_bias", ones({dim_out}));
}

Tensor GLU::forward(const Tensor& x) const {
  const Tensors halves = chunk(proj_(x), 2, -1);
  const Tensor y = halves[0] * activate(halves[1], activation_, relu_squared_);
  return mult_bias_.defined() ? y * mult_bias_ : y;
}

FeedForward::FeedForward(const FeedForwardConfig& c) : config_(c) {
  check(c.dim > 0, "FeedForward: dim must be positive, got ", c.dim);
  check(!(c.relu_squared && c.swish), "FeedForward: ff_relu_squared and ff_swish exclude each other");
  const auto inner = static_cast<int64_t>(static_cast<double>(c.dim) * c.mult);
  check(inner > 0, "FeedForward: mult ", c.mult, " gives ", inner, " hidden features");

  auto ff = std::make_shared<Sequential>();
  if (c.glu) {
    glu_ = ff->push_back(std::make_shared<GLU>(c.dim, inner, activation(c), c.relu_squared, c.glu_mult_bias));
  } else {
    in_ = std::make_shared<Linear>(c.dim, inner, !c.no_bias);
    ff->push_back(std::make_shared<Sequential>(in_, activation_module(c)));
  }
  if (c.post_act_ln) norm_ = ff->push_back(std::make_shared<LayerNorm>(inner));
  dropout_ = ff->push_back(std::make_shared<Dropout>(c.dropout));
  out_ = ff->push_back(std::make_shared<Linear>(inner, c.dim_out.value_or(c.dim), !c.no_bias));
  if (c.zero_init_output) {
    init::zeros_(out_->weight);
    if (out_->bias.defined()) init::zeros_(out_->bias);
  }
  register_module("ff", ff);
}

Tensor FeedForward::forward(const Tensor& x) const {
  Tensor h;
  if (glu_)
    h = glu_->forward(x);
  else
    h = config_.relu_squared ? relu_squared(in_->forward(x)) : (*in_)(x, activation(config_));
  if (norm_) h = (*norm_)(h);
  return out_->forward(dropout_->forward(h));
}

}  // namespace weft::xt
