// x-transformers' embeddings of length 1: fixnorm, of the same paper as ScaleNorm (arXiv:1910.05895). They start almost
// at 0, so that the first steps turn them easily. The document describes them in a sentence: the sizes are those of its
// blocks, with a text of 256 tokens.
#include <weft/weft.h>

#include <iostream>

using namespace weft;

int main() {
  const NoGrad guard;  // forward passes only
  manual_seed(0);

  auto model = TransformerWrapper({
      .num_tokens = 20000,
      .max_seq_len = 1024,
      .l2norm_embed = true,
      .attn_layers = make<Decoder>({
          .dim = 512,
          .depth = 6,
          .heads = 8,
      }),
  });
  const Tensor x = randint(0, 20000, {1, 256});
  const Tensor logits = model(x);  // [1, 256, 20000]

  const Tensor lengths = norm((*model.token_emb())(x), 2, {-1});  // [1, 256]
  const double off = amax(abs(lengths - 1)).item();
  std::cout << concat(x.shape()) << " -> " << concat(logits.shape()) << "; lengths of embeddings are 1 to within "
            << off << "\n";
  return logits.shape() == Shape{1, 256, 20000} && off < 1e-5 ? 0 : 1;
}
