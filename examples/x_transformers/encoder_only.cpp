// x-transformers' "Encoder-only (BERT-like)": every token sees all others but masked ones.
// The document's text is of 1024 tokens, here 128, and on a GPU: in a CUDA build, model.to(Device::cuda()), and the
// same of x and mask.
#include <weft/weft.h>

#include <iostream>

using namespace weft;

int main() {
  const NoGrad guard;  // forward passes only
  manual_seed(0);

  auto model = TransformerWrapper({
      .num_tokens = 20000,
      .max_seq_len = 1024,
      .attn_layers = make<Encoder>({
          .dim = 512,
          .depth = 12,
          .heads = 8,
      }),
  });
  const Tensor x = randint(0, 256, {1, 128});
  const Tensor mask = ones_like(x).to(boolean);
  const Tensor logits = model(x, {.mask = mask});  // [1, 128, 20000]

  // Padding that the mask names changes nothing for the tokens before it.
  const Tensor padded_mask = cat({mask, zeros({1, 16}, {.dtype = boolean})}, 1);
  const Tensor padded = model(cat({x, randint(0, 256, {1, 16})}, 1), {.mask = padded_mask});  // [1, 144, 20000]
  const double difference = amax(abs(padded.narrow(1, 0, 128) - logits)).item();
  std::cout << concat(x.shape()) << " -> " << concat(logits.shape()) << "; with 16 tokens of padding they change by "
            << difference << "\n";
  return logits.shape() == Shape{1, 128, 20000} && difference < 1e-3 ? 0 : 1;
}
