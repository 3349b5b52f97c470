// x-transformers' "Memory Transformers" (arXiv:2006.11527): learned tokens, later also called registers, that go
// through the layers in front of the text. The document's sizes; it does not call the model, and here a text of 256
// tokens goes through.
#include <weft/weft.h>

#include <iostream>

using namespace weft;

int main() {
  const NoGrad guard;  // forward passes only
  manual_seed(0);

  auto model = TransformerWrapper({
      .num_tokens = 20000,
      .max_seq_len = 1024,
      .num_memory_tokens = 20,  // so many
      .attn_layers = make<Encoder>({
          .dim = 512,
          .depth = 6,
          .heads = 8,
      }),
  });
  const Tensor x = randint(0, 20000, {1, 256});
  const auto out = model.run(x);
  const Tensor logits = out.logits[0];                      // [1, 256, 20000]: none for memories
  const Tensor memories = out.intermediates.memory_tokens;  // [1, 20, 512]: what became of them

  std::cout << concat(x.shape()) << " -> " << concat(logits.shape()) << ", memories " << concat(memories.shape())
            << "\n";
  return logits.shape() == Shape{1, 256, 20000} && memories.shape() == Shape{1, 20, 512} ? 0 : 1;
}
