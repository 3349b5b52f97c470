// Models on the GPU, in bfloat16 by Autocast. A "train" step is forward, loss, backward, clipping by norm and AdamW; a
// "step" is forward and backward, with a loss where the model has one.
#include "gpu.h"

#include <weft/nn/flash/autoregressive_wrapper.h>
#include <weft/nn/flash/flash_transformer.h>
#include <weft/nn/flash/gau.h>
#include <weft/nn/xt.h>

#include "gpt2/gpt2.h"

namespace weft::bench::gpu {
namespace {

using namespace flash;

// loss() and backward; with an optimiser, clipping and its step too.
Step training(std::shared_ptr<Module> model, std::function<Tensor()> loss, bool optimise) {
  const Tensors parameters = model->parameters();
  auto optimizer = optimise ? std::make_shared<AdamW>(parameters, AdamWOptions{.lr = 1e-4}) : nullptr;
  return [=] {
    for (const Tensor& p : parameters) p.set_grad({});
    {
      Autocast scope(bfloat16);
      loss().backward();
    }
    if (!optimizer) return;
    optimizer->step_clipped(1.0);
  };
}

Step gpt2_124m() {
  auto model = std::make_shared<gpt2::GPT2>();
  const Tensor ids = randint(0, 50257, {16, 1024}), targets = randint(0, 50257, {16, 1024});
  return training(
      model, [=] { return model->loss(ids, targets); }, true);
}

Step flash_transformer(int64_t batch, int64_t length, FLASHTransformerConfig config, bool optimise) {
  config.causal = true;
  auto model = std::make_shared<AutoregressiveWrapper>(std::make_shared<FLASHTransformer>(config));
  const Tensor ids = randint(0, config.num_tokens, {batch, length + 1});
  return training(
      model, [=] { return (*model)(ids); }, optimise);
}

// x-transformers' decoder of 12 layers of 512, vocabulary 20,000.
Step xt_decoder(int64_t batch, int64_t length, bool optimise) {
  auto net = std::make_shared<xt::TransformerWrapper>(
      xt::TransformerWrapperConfig{.num_tokens = 20000,
                                   .max_seq_len = 1024,
                                   .attn_layers = std::make_shared<Decoder>(xt::AttentionLayersConfig{
                                       .dim = 512, .depth = 12, .heads = 8, .attn_flash = true})});
  auto model = std::make_shared<xt::AutoregressiveWrapper>(xt::AutoregressiveWrapperConfig{.net = net});
  const Tensor ids = randint(0, 20000, {batch, length + 1});
  return training(
      model, [=] { return (*model)(ids); }, optimise);
}

// The decoder of 512×12 writes 256 bytes after 16, one row, top-k of the tenth of 256: one step is one generate, so
// 256 over its time are tokens a second. It captures a token's step by itself.
Step xt_decode(DType dtype) {
  auto net = std::make_shared<xt::TransformerWrapper>(
      xt::TransformerWrapperConfig{.num_tokens = 256,
                                   .max_seq_len = 1024,
                                   .attn_layers = std::make_shared<Decoder>(xt::AttentionLayersConfig{
                                       .dim = 512, .depth = 12, .heads = 8, .attn_flash = true})});
  net->to(dtype);
  auto model = std::make_shared<xt::AutoregressiveWrapper>(xt::AutoregressiveWrapperConfig{.net = net});
  const Tensor prompt = randint(0, 256, {1, 16});
  return [=] { model->generate(prompt, 256); };
}

Step xt_encoder_decoder() {
  auto model = std::make_shared<xt::XTransformer>(xt::XTransformerConfig{.dim = 512,
                                                                         .enc_num_tokens = 256,
                                                                         .enc_depth = 6,
                                                                         .enc_heads = 8,
                                                                         .enc_max_seq_len = 1024,
                                                                         .dec_num_tokens = 256,
                                                                         .dec_depth = 6,
                                                                         .dec_heads = 8,
                                                                         .dec_max_seq_len = 1024,
                                                                         .enc_attn_flash = true,
                                                                         .dec_attn_flash = true});
  const Tensor src = randint(0, 256, {1, 1024}), tgt = randint(0, 256, {1, 1025});
  return training(
      model, [=] { return (*model)(src, tgt); }, false);
}

Step xt_vit() {
  auto model = std::make_shared<xt::ViTransformerWrapper>(
      xt::ViTransformerWrapperConfig{.image_size = 256,
                                     .patch_size = 32,
                                     .num_classes = 1000,
                                     .attn_layers = std::make_shared<Encoder>(xt::AttentionLayersConfig{
                                         .dim = 512, .depth = 6, .heads = 8, .attn_flash = true})});
  const Tensor image = randn({1, 3, 256, 256}), label = randint(0, 1000, {1});
  return training(
      model, [=] { return cross_entropy((*model)(image), label); }, false);
}

template <class Layer>
Step layer(std::shared_ptr<Layer> module, const Shape& shape) {
  const Tensor x = randn(shape).requires_grad_();
  const Tensor upstream = randn(shape);
  return [=] {
    x.set_grad({});
    module->zero_grad();
    Autocast scope(bfloat16);
    (*module)(x).backward(upstream);
  };
}

}  // namespace

void add_model_cases() {
  add("train/gpt2_124m/16x1024", gpt2_124m, 6.0 * 124e6 * 16384 + 6.0 * 12 * 768 * 1024 * 16384);
  add("train/flash_512x8/16x1024",
      [] { return flash_transformer(16, 1024, {.num_tokens = 256, .dim = 512, .depth = 8}, true); });
  add("step/flash_512x12/1x1024",
      [] { return flash_transformer(1, 1024, {.num_tokens = 20000, .dim = 512, .depth = 12}, false); });
  add("train/xt_512x12/16x1024", [] { return xt_decoder(16, 1024, true); });
  add("step/xt_512x12/1x1024", [] { return xt_decoder(1, 1024, false); });
  // A token reads every weight once: 38 million.
  for (const auto& [dtype, name] : {std::pair{bfloat16, "bf16"}, {float32, "fp32"}})
    add(
        std::string("decode/xt_512x12/1x256/") + name, [dtype = dtype] { return xt_decode(dtype); }, 0,
        256 * 38e6 * static_cast<double>(size_of(dtype)), false);
  add("step/xtransformer_512_6+6/1x1024", xt_encoder_decoder);
  add("step/vit_512x6/256_32", xt_vit);
  add("step/gau_512/1x1024", [] {
    return layer(std::make_shared<GAU>(GAUConfig{
                     .dim = 512, .query_key_dim = 128, .causal = true, .expansion_factor = 2, .laplace_attn_fn = true}),
                 {1, 1024, 512});
  });
  add("step/flash_512/1x1111", [] {
    return layer(std::make_shared<FLASH>(FLASHConfig{.dim = 512,
                                                     .group_size = 256,
                                                     .causal = true,
                                                     .query_key_dim = 128,
                                                     .expansion_factor = 2,
                                                     .laplace_attn_fn = true}),
                 {1, 1111, 512});
  });
}

}  // namespace weft::bench::gpu
