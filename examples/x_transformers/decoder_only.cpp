// x-transformers' "Decoder-only (GPT-like)": logits of the next token at every place.
// The document's text is of 1024 tokens, here 128, and on a GPU: in a CUDA build, model.to(Device::cuda()) and
// x.to(Device::cuda()).
#include <weft/weft.h>

#include <iostream>

using namespace weft;

int main() {
  const NoGrad guard;  // forward passes only
  manual_seed(0);

  auto model = TransformerWrapper({
      .num_tokens = 20000,
      .max_seq_len = 1024,
      .attn_layers = make<Decoder>({
          .dim = 512,
          .depth = 12,
          .heads = 8,
      }),
  });
  const Tensor x = randint(0, 256, {1, 128});
  const Tensor logits = model(x);  // [1, 128, 20000]

  // No token sees what comes after it: the first half alone gives what it gave before the second.
  const double difference = amax(abs(model(x.narrow(1, 0, 64)) - logits.narrow(1, 0, 64))).item();
  std::cout << concat(x.shape()) << " -> " << concat(logits.shape())
            << "; without the second half, the first changes by " << difference << "\n";
  return logits.shape() == Shape{1, 128, 20000} && difference < 1e-3 ? 0 : 1;
}
