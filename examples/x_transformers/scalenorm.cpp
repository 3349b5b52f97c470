// x-transformers' "Transformers Without Tears" (arXiv:1910.05895): x / |x| times one learned number in place of every
// layer norm. The document's sizes; it does not call the model, and here a text of 256 tokens goes through.
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
          .depth = 6,
          .heads = 8,
          .use_scalenorm = true,  // in all layers
      }),
  });
  const Tensor x = randint(0, 20000, {1, 256});
  const Tensor embeddings = model(x, {.return_embeddings = true});  // [1, 256, 512]: the last norm's output
  const Tensor logits = model(x);                                   // [1, 256, 20000]

  int64_t norms = 0;  // one before each sublayer, and one at the end
  model.apply([&](const std::string&, const Module& m) { norms += m.name() == "ScaleNorm"; });
  const Tensor lengths = norm(embeddings, 2, {-1});  // all alike: the learned number
  const double spread = (amax(lengths) - amin(lengths)).item();
  std::cout << concat(x.shape()) << " -> " << concat(logits.shape()) << ", " << norms
            << " norms; the last gives vectors of length " << amax(lengths).item() << ", to within " << spread << "\n";
  return logits.shape() == Shape{1, 256, 20000} && norms == 13 && spread < 1e-3 ? 0 : 1;
}
