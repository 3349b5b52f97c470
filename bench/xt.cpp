// Decoding with x-transformers' models on the CPU, float32. Names as in torch/xt.py. A step writes 64 tokens after 16,
// one row, drawn from the likeliest tenth of 256: 64 over its time are tokens a second.
#include "case.h"

#include <weft/nn/xt.h>

using namespace weft;
using namespace weft::bench;

namespace {

Step decode(int64_t dim, int64_t depth, int64_t heads) {
  auto net = std::make_shared<xt::TransformerWrapper>(
      xt::TransformerWrapperConfig{.num_tokens = 256,
                                   .max_seq_len = 1024,
                                   .attn_layers = std::make_shared<Decoder>(xt::AttentionLayersConfig{
                                       .dim = dim, .depth = depth, .heads = heads, .attn_flash = true})});
  auto model = std::make_shared<xt::AutoregressiveWrapper>(xt::AutoregressiveWrapperConfig{.net = net});
  const Tensor prompt = randint(0, 256, {1, 16});
  return [=] { model->generate(prompt, 64); };
}

}  // namespace

int main(int argc, char** argv) {
  add("decode/xt_512x12/1x64", [] { return decode(512, 12, 8); });
  add("decode/xt_64x2/1x64", [] { return decode(64, 2, 2); });
  return bench::main(argc, argv);
}
