// FLASH layers and models on the CPU, float32. Names as in torch/flash.py. A model's step is forward, loss, backward,
// clipping by norm and Adam; a layer's is forward and backward.
#include "case.h"

#include <weft/nn/flash/autoregressive_wrapper.h>
#include <weft/nn/flash/flash_transformer.h>
#include <weft/nn/flash/gau.h>

using namespace weft;
using namespace weft::bench;
using namespace weft::flash;

namespace {

template <class Layer>
Step layer(std::shared_ptr<Layer> module, const Shape& shape) {
  const Tensor x = randn(shape).requires_grad_(), upstream = randn(shape);
  return [=] {
    x.set_grad({});
    module->zero_grad();
    (*module)(x).backward(upstream);
  };
}

Step model(int64_t batch, int64_t length, FLASHTransformerConfig config) {
  config.num_tokens = 256;
  config.causal = true;
  auto net = std::make_shared<AutoregressiveWrapper>(std::make_shared<FLASHTransformer>(config));
  const Tensor tokens = randint(0, 256, {batch, length + 1});
  auto adam = std::make_shared<Adam>(net->parameters(), AdamOptions{.lr = 2e-4});
  return [=] {
    (*net)(tokens).backward();
    clip_grad_norm_(net->parameters(), 0.5);
    adam->step();
    adam->zero_grad();
  };
}

}  // namespace

int main(int argc, char** argv) {
  add("gau/512/1x1024/step", [] {
    return layer(std::make_shared<GAU>(GAUConfig{
                     .dim = 512, .query_key_dim = 128, .causal = true, .expansion_factor = 2, .laplace_attn_fn = true}),
                 {1, 1024, 512});
  });
  add("flash/512/1x1111/step", [] {
    return layer(std::make_shared<FLASH>(FLASHConfig{.dim = 512,
                                                     .group_size = 256,
                                                     .causal = true,
                                                     .query_key_dim = 128,
                                                     .expansion_factor = 2,
                                                     .laplace_attn_fn = true}),
                 {1, 1111, 512});
  });
  add("flash_transformer/64x2/1x64/step", [] { return model(1, 64, {.dim = 64, .depth = 2}); });
  add("flash_transformer/64x2_group64/1x64/step",
      [] { return model(1, 64, {.dim = 64, .depth = 2, .group_size = 64}); });
  add("flash_transformer/512x8/1x1024/step", [] { return model(1, 1024, {.dim = 512, .depth = 8}); });
  return bench::main(argc, argv);
}
