#include "gpt2/gpt2.h"

#include <weft/nn/xt/sampling.h>
#include <weft/weft.h>

#include <cmath>

namespace weft::gpt2 {

GPT2Config published_size(std::string_view name) {
  if (name == "124M") return {};
  if (name == "350M") return {.n_embd = 1024, .n_layer = 24, .n_head = 16};
  if (name == "774M") return {.n_embd = 1280, .n_layer = 36, .n_head = 20};
  if (name == "1558M") return {.n_embd = 1600, .n_layer = 48, .n_head = 25};
  fail("GPT2: there is no size '", name, "'; the published ones are 124M, 350M, 774M and 1558M");
}

namespace {

// Into the residual stream, which 2·n_layer of them add to.
double residual_std(const GPT2Config& c) { return 0.02 / std::sqrt(2.0 * static_cast<double>(c.n_layer)); }

}  // namespace

Conv1D::Conv1D(int64_t in, int64_t out, double std) {
  weight = register_parameter("weight", empty({in, out}));
  bias = register_parameter("bias", zeros({out}));
  init::normal_(weight, 0, std);
}

Attention::Attention(const GPT2Config& c)
    : heads(c.n_head), c_attn(c.n_embd, 3 * c.n_embd), c_proj(c.n_embd, c.n_embd, residual_std(c)) {
  check(heads > 0 && c.n_embd % heads == 0, "GPT2: n_embd ", c.n_embd, " is no multiple of n_head ", heads);
  register_module("c_attn", c_attn);
  register_module("c_proj", c_proj);
}

Tensor Attention::forward(const Tensor& x) const {  // x: [b, n, dim]
  const Tensors qkv = chunk(c_attn(x), 3, -1);
  const auto split_heads = [&](const Tensor& t) { return transpose(unflatten(t, -1, {heads, -1}), 1, 2); };
  const Tensor y = scaled_dot_product_attention(split_heads(qkv[0]), split_heads(qkv[1]), split_heads(qkv[2]),
                                                {.causal = true});  // [b, h, n, d]
  return c_proj(flatten(transpose(y, 1, 2), 2));
}

MLP::MLP(const GPT2Config& c) : c_fc(c.n_embd, 4 * c.n_embd), c_proj(4 * c.n_embd, c.n_embd, residual_std(c)) {
  register_module("c_fc", c_fc);
  register_module("c_proj", c_proj);
}

Block::Block(const GPT2Config& c)
    : ln_1(Shape{c.n_embd}, c.layer_norm_epsilon), ln_2(Shape{c.n_embd}, c.layer_norm_epsilon), attn(c), mlp(c) {
  register_module("ln_1", ln_1);
  register_module("attn", attn);
  register_module("ln_2", ln_2);
  register_module("mlp", mlp);
}

ResidualStream Block::operator()(const ResidualStream& stream) const {
  const auto [x, attn_in] = stream.add_norm(ln_1);
  const auto [y, mlp_in] = ln_2.add(x, attn.forward(attn_in));
  return {y, mlp.forward(mlp_in)};
}

Tensor Block::forward(const Tensor& x) const { return (*this)(ResidualStream{x}).sum(); }

GPT2::GPT2(const GPT2Config& c)
    : config_(c),
      wte(c.vocab_size, c.n_embd),
      wpe(c.n_positions, c.n_embd),
      ln_f(Shape{c.n_embd}, c.layer_norm_epsilon) {
  init::normal_(wte.weight, 0, 0.02);
  init::normal_(wpe.weight, 0, 0.01);
  for (int64_t i = 0; i < c.n_layer; ++i) h.emplace_back<Block>(c);
  register_module("wte", wte);
  register_module("wpe", wpe);
  register_module("h", h);
  register_module("ln_f", ln_f);
}

Tensor GPT2::hidden(const Tensor& ids) const {
  check(ids.dim() == 2 && ids.size(1) <= config_.n_positions, "GPT2: expected ids [b, n] with n up to ",
        config_.n_positions, ", got ", ids.shape());
  ResidualStream stream{Autocast::apply(wte(ids) + narrow(wpe.weight, 0, 0, ids.size(1)))};
  for (int64_t i = 0; i < h.size(); ++i) stream = h.at<Block>(i)(stream);
  return stream.add_norm(ln_f).second;
}

Tensor GPT2::forward(const Tensor& ids) const { return linear(hidden(ids), wte.weight); }

Tensor GPT2::loss(const Tensor& ids, const Tensor& targets) const {
  return linear_cross_entropy(flatten(hidden(ids), 0, 1), wte.weight, flatten(targets));
}

std::vector<int64_t> GPT2::generate(std::vector<int64_t> ids, int64_t count, double temperature, int64_t top_k) const {
  check(!ids.empty(), "GPT2: generate needs at least one token to go on from");
  NoGrad guard;
  const auto likeliest = [top_k](const Tensor& logits) { return xt::top_k(logits, 1, top_k); };
  for (int64_t i = 0; i < count; ++i) {
    const int64_t seen = std::min<int64_t>(static_cast<int64_t>(ids.size()), config_.n_positions);
    const Tensor text = tensor(std::vector<int64_t>(ids.end() - seen, ids.end()), {1, seen}).to(wte.weight.device());
    const Tensor last = linear(hidden(text).select(1, -1), wte.weight);  // [1, vocab]
    ids.push_back(xt::sample(last, temperature, likeliest, default_generator()).item<int64_t>());
  }
  return ids;
}

void GPT2::load(const std::string& path) {
  NamedTensors state;
  const std::string prefix = "transformer.";
  for (auto& [name, value] : load_safetensors(path)) {
    std::string mine = name.starts_with(prefix) ? name.substr(prefix.size()) : name;
    if (mine == "lm_head.weight" || mine.ends_with(".attn.bias") || mine.ends_with(".attn.masked_bias")) continue;
    state.emplace_back(std::move(mine), value);
  }
  load_state_dict(state);
}

}  // namespace weft::gpt2
